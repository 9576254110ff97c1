// Package awssecrets follows the references of a configuration that point to AWS: aws-secretsmanager:ARN#member gives a
// secret, aws-kms:ARN a key that signs without leaving KMS.
//
// Credentials and endpoints are found as every AWS SDK finds them: the environment, the shared files, the role of an ECS
// task or of an EC2 instance. The region is the ARN's. Nothing is asked of AWS before a reference is followed, so an
// instance whose configuration names none needs no credentials.
//
// What the role must allow: secretsmanager:GetSecretValue on the secrets (and kms:Decrypt where a key of one's own
// encrypts them), kms:GetPublicKey and kms:Sign on the keys.
package awssecrets

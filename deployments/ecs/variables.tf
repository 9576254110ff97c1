variable "name" {
  description = "Names the service, its roles and its log group."
  type        = string
  default     = "ingestd"
}

variable "image" {
  description = "The image, best by its digest, from a registry that the execution role may pull from."
  type        = string
}

variable "cluster_arn" {
  description = "The ECS cluster that the service runs in."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets with a way to the payers, the database and the AWS endpoints."
  type        = list(string)
}

variable "vpc_id" {
  description = "The VPC of the subnets, for the security group."
  type        = string
}

variable "configuration" {
  description = "The text of ingestd.yaml. It holds references to secrets and no secrets."
  type        = string
}

variable "secret_arns" {
  description = "Secrets of Secrets Manager that the configuration refers to as aws-secretsmanager:ARN. The task may read these and no others."
  type        = list(string)
  default     = []
}

variable "environment_secrets" {
  description = "Environment variables from Secrets Manager, for references of the form env:NAME: name to ARN (or ARN:json-key::)."
  type        = map(string)
  default     = {}
}

variable "secrets_kms_key_arn" {
  description = "The customer managed KMS key that encrypts these secrets; null where they are encrypted by the account's own."
  type        = string
  default     = null
}

variable "signing_kms_key_arn" {
  description = "The KMS key that signs client assertions, for keys of the form aws-kms:ARN; null where keys are secrets."
  type        = string
  default     = null
}

variable "rds_iam_user_arn" {
  description = "rds-db:connect ARN of the database user, for IAM authentication; null where the database URL holds a password."
  type        = string
  default     = null
}

variable "database_security_group_id" {
  description = "The database's security group, which the tasks are let into; null where that is arranged elsewhere."
  type        = string
  default     = null
}

variable "admin_security_group_ids" {
  description = "Security groups that may reach the admin listener, for metrics and the status page."
  type        = list(string)
  default     = []
}

variable "admin_port" {
  description = "The port of admin.listen."
  type        = number
  default     = 8090
}

variable "desired_count" {
  description = "Instances. Two or more go on while one is exchanged or lost."
  type        = number
  default     = 2
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
  default     = 1024
}

variable "memory" {
  description = "MiB of a task. ingestd's own bound is two chunks of workers.chunk a load, and the longest line."
  type        = number
  default     = 2048
}

variable "architecture" {
  description = "X86_64 or ARM64."
  type        = string
  default     = "ARM64"
  validation {
    condition     = contains(["X86_64", "ARM64"], var.architecture)
    error_message = "The architecture is X86_64 or ARM64."
  }
}

variable "spot" {
  description = "Run on Fargate Spot. An interruption is a SIGTERM two minutes before the end: loads go on elsewhere from their checkpoints."
  type        = bool
  default     = false
}

variable "stop_timeout" {
  description = "Seconds between SIGTERM and SIGKILL; longer than shutdown.grace, at most 120 on Fargate."
  type        = number
  default     = 60
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps the log. It holds no PHI."
  type        = number
  default     = 365
}

variable "logs_kms_key_arn" {
  description = "The KMS key that encrypts the log group; null for CloudWatch's own encryption."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}

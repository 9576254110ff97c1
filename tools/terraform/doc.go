// Package terraform checks the Terraform module of deployments/ecs without Terraform and its providers: format, references, and the
// container definitions that come out of it, against the types of the ECS API. It has a module of its own, so that its dependencies are
// not the product's.
package terraform

# Two tasks in a VPC that exists, with a key in KMS and a database that takes IAM tokens. What differs from site to site is a variable.

provider "aws" {
  region = var.region
}

variable "region" {
  description = "The AWS region."
  type        = string
  default     = "us-east-1"
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Its private subnets."
  type        = list(string)
}

variable "database_security_group_id" {
  description = "The security group of the database."
  type        = string
}

variable "image" {
  description = "The image, by its digest."
  type        = string
}

variable "database_url_secret_arn" {
  description = "The secret that holds the database's URL."
  type        = string
}

resource "aws_ecs_cluster" "this" {
  name = "ingest"
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

# Signs client assertions, and never leaves KMS. Its public half: ingestd keys jwks --config ingestd.yaml
resource "aws_kms_key" "signing" {
  description              = "Client assertions of ingestd"
  customer_master_key_spec = "ECC_NIST_P384"
  key_usage                = "SIGN_VERIFY"
}

module "ingestd" {
  source = "../.."

  image                      = var.image
  cluster_arn                = aws_ecs_cluster.this.arn
  vpc_id                     = var.vpc_id
  subnet_ids                 = var.subnet_ids
  database_security_group_id = var.database_security_group_id
  signing_kms_key_arn        = aws_kms_key.signing.arn
  secret_arns                = [var.database_url_secret_arn]
  configuration = templatefile("${path.module}/ingestd.yaml", {
    database_url = var.database_url_secret_arn
    signing_key  = aws_kms_key.signing.arn
  })
}

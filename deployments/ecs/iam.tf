# Two roles: what ECS does to start a task, and what the task itself may do. Each names its resources.

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

locals {
  # A secret of the environment may be named with a JSON key, version stage and version behind its ARN, of seven parts.
  environment_secret_arns = [for arn in values(var.environment_secrets) : join(":", slice(split(":", arn), 0, 7))]
  execution_reads         = length(local.environment_secret_arns) > 0
}

data "aws_iam_policy_document" "execution" {
  count = local.execution_reads ? 1 : 0
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = distinct(local.environment_secret_arns)
  }
  dynamic "statement" {
    for_each = var.secrets_kms_key_arn == null ? [] : [var.secrets_kms_key_arn]
    content {
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  count  = local.execution_reads ? 1 : 0
  name   = "secrets"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution[0].json
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

data "aws_iam_policy_document" "task" {
  # While it loads, a task keeps ECS from choosing it when the service is made smaller.
  statement {
    actions   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
    resources = ["arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:task/*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [var.cluster_arn]
    }
  }
  dynamic "statement" {
    for_each = length(var.secret_arns) == 0 ? [] : [1]
    content {
      actions   = ["secretsmanager:GetSecretValue"]
      resources = var.secret_arns
    }
  }
  dynamic "statement" {
    for_each = var.secrets_kms_key_arn == null ? [] : [var.secrets_kms_key_arn]
    content {
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = var.signing_kms_key_arn == null ? [] : [var.signing_kms_key_arn]
    content {
      actions   = ["kms:Sign", "kms:GetPublicKey"]
      resources = [statement.value]
    }
  }
  dynamic "statement" {
    for_each = var.rds_iam_user_arn == null ? [] : [var.rds_iam_user_arn]
    content {
      actions   = ["rds-db:connect"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "task" {
  name   = "ingestd"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

output "service_name" {
  description = "The ECS service."
  value       = aws_ecs_service.this.name
}

output "security_group_id" {
  description = "The security group of the tasks."
  value       = aws_security_group.this.id
}

output "task_role_arn" {
  description = "What the tasks run as, for the policies of keys and secrets in other accounts."
  value       = aws_iam_role.task.arn
}

output "log_group_name" {
  description = "Where the log goes."
  value       = aws_cloudwatch_log_group.this.name
}

terraform {
  required_version = ">= 1.7"
  backend "s3" {
    bucket         = "meridian-tfstate"
    key            = "media/storage.tfstate"
    region         = "eu-north-1"
    dynamodb_table = "tf-locks"
  }
}

variable "environment" {
  description = "Either staging or prod."
  type        = string
}

variable "retention_days" {
  description = "Days until originals move to Glacier. Less than 30 costs more than it saves."
  type        = number
  default     = 90
}

resource "aws_s3_bucket" "originals" {
  bucket        = "meridian-originals-${var.environment}"
  force_destroy = var.environment == "staging"

  # was deleted by accident in March; see the post-mortem
  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "originals" {
  bucket = aws_s3_bucket.originals.id

  rule {
    id     = "to-glacier"
    status = "Enabled"
    transition {
      days          = var.retention_days
      storage_class = "GLACIER"
    }
  }

  rule {
    id     = "abort-uploads"
    status = "Enabled"
    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }
}

resource "aws_db_instance" "catalogue" {
  identifier              = "catalogue-${var.environment}"
  engine                  = "postgres"
  engine_version          = "16.4"
  instance_class          = "db.t4g.large"
  allocated_storage       = 120
  backup_retention_period = 14
  multi_az                = var.environment == "prod"
}

output "originals_arn" {
  value = aws_s3_bucket.originals.arn
}

"""Training: data, losses, stages and distillation."""

"""Training: losses, the loop, checkpoints that resume exactly."""

"""The GPU memory of a training step, counted before it runs."""

"""How much memory a training step takes, counted before it runs."""

"""Training: the loop, optimizers, EMA, losses of the fits and of the UNet, previews."""

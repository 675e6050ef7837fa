"""How weights are fitted: steps, optimizers, averages, and what is watched on the way."""

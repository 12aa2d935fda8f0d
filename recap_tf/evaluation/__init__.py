"""How good a model is on each validation set, and what follows from it."""

"""A run of training, and what it needs: checkpoints, the loop, strategies, clusters."""

"""What a run of training needs: checkpoints, the loop, strategies, clusters."""

"""Logits, labels and weights -> losses -> gradients, balanced over tasks."""

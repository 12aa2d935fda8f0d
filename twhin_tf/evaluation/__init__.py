"""Ranks of held-out edges, beside ranking by popularity."""

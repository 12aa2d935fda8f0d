"""Optimizers of groups of weights and of single rows, with schedules."""

"""Metrics over pooled or grouped rows, each with its standard error; a file each."""

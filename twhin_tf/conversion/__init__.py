"""Edges with any ids -> a graph folder: types, splits, vocabularies."""

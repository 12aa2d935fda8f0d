"""Edges -> scores -> loss: tables of nodes, operators, negatives."""

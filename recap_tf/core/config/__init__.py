"""Gin files, checked: names, types, and whether anything reads a setting."""

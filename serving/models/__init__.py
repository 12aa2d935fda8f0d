"""Loads SavedModels, chooses their versions, and runs them in batches."""

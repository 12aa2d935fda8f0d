"""A trained ranker -> SavedModels, their signatures, variants and warm-up requests."""

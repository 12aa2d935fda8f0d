"""A trained model -> vectors, plots, projector files, retrieval SavedModels."""

"""What the metrics are made of: their base classes, and sorted lists of examples."""

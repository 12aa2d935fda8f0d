"""What a folder of edges holds, and batches of its edges."""

"""Work of the commands beside the server: scoring, load, comparing, deploying."""

"""Faces people: the chat page, the HTTP API, the benchmark client. Knows nothing of training."""

"""Answers a question from a FAQ. Needs no torch; knows nothing of training or of web pages."""

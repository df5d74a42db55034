"""Answers of a model: generated, or judged by likelihood."""

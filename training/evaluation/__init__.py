"""Downstream scores: prompts in, generations out, programs executed, scores with their uncertainty."""

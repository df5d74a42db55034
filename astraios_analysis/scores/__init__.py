"""Measured scores and losses with their uncertainty."""

"""Choices of outcome, input, law and sizes to hold out, and what follows from them, with widgets and without."""

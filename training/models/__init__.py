"""Models, the seven tuning methods, and what they add in parameters."""

"""The study's data sets: problems, prompts, scorers."""

"""A grid of runs: bases, runs, workers, searches and estimates."""

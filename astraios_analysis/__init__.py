"""Scaling laws for tuned code language models: records, scores with uncertainty, fits, predictions, figures.

The package never imports torch: everything here runs on tables of finished runs.
"""

"""Notebooks run, figures and report written."""

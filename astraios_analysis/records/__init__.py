"""Finished runs: what one holds, where it lies, and all of them as one tidy table."""

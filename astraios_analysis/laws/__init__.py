"""Functional forms and their certified fit to points."""

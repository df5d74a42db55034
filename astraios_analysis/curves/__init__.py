"""Forecasts of learning curves in tables."""

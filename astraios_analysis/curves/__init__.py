"""Curves that laws describe and rows scatter around: their forecasts, and lines where rows are few."""

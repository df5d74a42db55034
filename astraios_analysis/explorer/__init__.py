"""From a choice of grid, axes, law and held-out sizes to a fit, its certificate, predictions and a back-test."""

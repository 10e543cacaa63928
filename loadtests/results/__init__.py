"""Figures: order statistics, fairness, bounds, result files, the page that shows them."""

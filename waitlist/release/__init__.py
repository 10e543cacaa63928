"""Letting people in, by hand or by a rule that measures, forecasts and decides."""

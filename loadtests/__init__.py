"""Benches that start Floodgate and its peers as processes and measure them from outside."""

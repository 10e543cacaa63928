"""People in line: joining, confirming, being told of a place, leaving."""

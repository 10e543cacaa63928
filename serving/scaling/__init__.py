"""How many replicas there should be: what Ray calls, the rule, and what it knows."""

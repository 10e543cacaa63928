"""The replicas behind the line: which there are, by which name, and HTTP to them."""

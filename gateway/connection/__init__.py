"""The wire towards callers: bounds on what arrives, request ids, errors in their shapes."""

"""Files of the operator's, read again as they change."""

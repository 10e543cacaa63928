"""For operators: counts, audit, search, their keys, pins, import and export."""

"""The ledger Redis: its layout, its scripts, how to call it, its schema versions."""

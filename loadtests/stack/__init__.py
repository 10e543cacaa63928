"""What a bench starts and talks to, as processes."""

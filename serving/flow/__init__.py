"""What serving writes to the flow Redis and reads from it."""

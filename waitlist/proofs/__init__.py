"""What people and programs prove themselves by: codes, keys, tickets, addresses, puzzles."""

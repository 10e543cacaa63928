"""The fair line in front of the engines: tickets, slots, and who is granted one next."""

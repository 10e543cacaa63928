"""What each bench measures, and its tables."""

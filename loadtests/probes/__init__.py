"""The machine and what runs on it, looked at while a bench runs."""

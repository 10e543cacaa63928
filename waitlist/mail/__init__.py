"""Mails due, sent, held; their texts; SMTP."""

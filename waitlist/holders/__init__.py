"""Accounts, their keys, what they used, what was revoked."""

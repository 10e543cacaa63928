"""Codes: made, campaigned with, redeemed once."""

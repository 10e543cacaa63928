"""Invite codes, accounts and API keys, kept in the ledger Redis.

from waitlist.directory import open_directory
"""

"""Loads: a closed loop, a constant rate, streamed chats, very many waiting callers."""

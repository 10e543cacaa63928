"""The flow Redis: scripts in batches with deadlines, every key name, the Lua."""

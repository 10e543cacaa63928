"""Shared by every suite.

That this file stands in a package lets pytest put the checkout on the import path, so that
`from tests.redis_server import RedisServer` works in each suite without further configuration.
"""

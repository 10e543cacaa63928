"""The tests; a package so that suites can share processes such as `tests.redis_server`."""

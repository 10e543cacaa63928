-- The text at KEYS[1], or nil.

return redis.call('GET', KEYS[1])

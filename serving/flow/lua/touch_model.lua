-- Notes that a model was served just now: "no replica at the moment" is not "unknown model".
--
-- KEYS[1] the sorted set of models     ARGV[1] model
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])

-- Writes one replica's record and its place in the list of its model's replicas.
--
-- KEYS[1] the record     KEYS[2] the model's sorted set of replicas
-- ARGV[1] the record as JSON     ARGV[2] replica id     ARGV[3] time to live in ms
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], now_ms + tonumber(ARGV[3]), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
return now_ms

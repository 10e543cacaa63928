-- Writes one replica's record and its place in the model's list of replicas, with one expiry.
--
-- KEYS[1] the record             KEYS[2] the model's sorted set of replicas
-- KEYS[3] what the model's line asks for
-- ARGV[1] the record as JSON     ARGV[2] replica id     ARGV[3] time to live in ms
-- Returns what stands at KEYS[3], or nil.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local expires_at_ms = now_ms + tonumber(ARGV[3])

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
redis.call('ZADD', KEYS[2], expires_at_ms, ARGV[2])
-- Replicas that were killed never take themselves off the list.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
return redis.call('GET', KEYS[3])

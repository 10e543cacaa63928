-- A worker that stops: its lease and its slots go at once.
-- KEYS[1] slots used   KEYS[2] worker leases   KEYS[3] this worker's slots
-- ARGV[1] worker id
local held = redis.call('HGETALL', KEYS[3])
for i = 1, #held, 2 do
  redis.call('HINCRBY', KEYS[1], held[i], -held[i + 1])
end
redis.call('DEL', KEYS[3])
return redis.call('ZREM', KEYS[2], ARGV[1])

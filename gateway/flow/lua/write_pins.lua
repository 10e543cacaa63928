-- Tells serving how many replicas operators want: all pins, in place of those before.
-- KEYS[1] pins; ARGV: model, replicas, …
redis.call('DEL', KEYS[1])
if #ARGV > 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
return 1

-- Slots given back.
-- KEYS[1] slots used   KEYS[2] worker leases   KEYS[3] this worker's slots
-- ARGV[1] worker id, then pairs: replica id, how many
-- Returns 1, or 0 when the worker's lease has ended (its slots were given back with it).
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do
  local count = tonumber(ARGV[i + 1])
  if redis.call('HINCRBY', KEYS[1], ARGV[i], -count) <= 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
  if redis.call('HINCRBY', KEYS[3], ARGV[i], -count) <= 0 then
    redis.call('HDEL', KEYS[3], ARGV[i])
  end
end
return 1

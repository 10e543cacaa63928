-- Reads ids from one end of a sorted set. Changes nothing.
--
-- KEYS[1] sorted set   ARGV[1] most  [2] 'newest' for the highest scores first, else the lowest
-- Returns ids.

if ARGV[2] == 'newest' then
  return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'REV')
end
return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1)

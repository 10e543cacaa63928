-- Pins a model to a number of replicas, or takes the pin away.
--
-- KEYS[1] pins  [2] audit stream  [3] mark of this attempt
-- ARGV[1] now, ms  [2] actor  [3] model  [4] replicas, or '' for none
-- ARGV[5] life of the mark, ms
-- Returns 1 where that changed something, else 0.

if redis.call('EXISTS', KEYS[3]) == 1 then
  return 1
end

local before = redis.call('HGET', KEYS[1], ARGV[3]) or ''
if before == ARGV[4] then
  return 0
elseif ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], ARGV[3])
else
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
redis.call('XADD', KEYS[2], '*', 'action', ARGV[4] == '' and 'unpinned' or 'pinned',
  'actor', ARGV[2], 'at_ms', ARGV[1], 'model', ARGV[3], 'replicas', ARGV[4])
return 1

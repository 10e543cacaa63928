-- Pauses joining or releasing, or lets it go on.
--
-- KEYS[1] pauses  [2] audit stream  [3] mark of this attempt
-- ARGV[1] now, ms  [2] actor  [3] 'joining' or 'releasing'  [4] '1' to pause, else ''
-- ARGV[5] life of the mark, ms
-- Returns 1 where that changed something, else 0.

if redis.call('EXISTS', KEYS[3]) == 1 then
  return 1
end

local changed
if ARGV[4] == '1' then
  changed = redis.call('HSETNX', KEYS[1], ARGV[3], ARGV[1])
else
  changed = redis.call('HDEL', KEYS[1], ARGV[3])
end
if changed == 1 then
  redis.call('SET', KEYS[3], '1', 'PX', ARGV[5])
  redis.call('XADD', KEYS[2], '*', 'action', ARGV[4] == '1' and 'paused' or 'resumed',
    'actor', ARGV[2], 'at_ms', ARGV[1], 'what', ARGV[3])
end
return changed

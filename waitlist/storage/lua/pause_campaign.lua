-- Stops the codes of a campaign from being redeemed, or lets them be redeemed again.
--
-- KEYS[1] campaign  [2] audit stream
-- ARGV[1] now, ms  [2] actor  [3] name  [4] '1' to pause, else ''
-- Returns 1, or 0 when there is no such campaign.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local changed
if ARGV[4] == '1' then
  changed = redis.call('HSETNX', KEYS[1], 'paused_at_ms', ARGV[1])
else
  changed = redis.call('HDEL', KEYS[1], 'paused_at_ms')
end
if changed == 1 then
  redis.call('XADD', KEYS[2], '*', 'action', ARGV[4] == '1' and 'paused' or 'resumed',
    'actor', ARGV[2], 'at_ms', ARGV[1], 'what', 'campaign ' .. ARGV[3])
end
return 1

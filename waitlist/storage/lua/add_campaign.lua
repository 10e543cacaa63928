-- Makes a campaign without codes.
--
-- KEYS[1] campaign  [2] campaigns  [3] audit stream
-- ARGV[1] now, ms  [2] actor  [3] name  [4] plan  [5] id of this attempt
-- Returns 1, or 0 when there is such a campaign.

local attempt = redis.call('HGET', KEYS[1], 'attempt')
if attempt then
  return attempt == ARGV[5] and 1 or 0
end
redis.call('HSET', KEYS[1], 'plan', ARGV[4], 'codes', 0, 'redeemed', 0, 'created_at_ms', ARGV[1],
  'attempt', ARGV[5])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[3], '*', 'action', 'campaign_added', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'campaign', ARGV[3], 'plan', ARGV[4])
return 1

-- Ends what was not confirmed or not redeemed in time.
--
-- KEYS[1] pending  [2] invited  [3] line  [4] statistics of the day
-- ARGV[1] now, ms  [2] most at once  [3] prefix of entries (same slot)
-- Returns {entries that were not confirmed, invites that were not redeemed}.

local pending = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, entry_id in ipairs(pending) do
  redis.call('ZREM', KEYS[1], entry_id)
  redis.call('ZREM', KEYS[3], entry_id)
  redis.call('DEL', ARGV[3] .. entry_id)
end
local invited = redis.call('ZRANGE', KEYS[2], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, entry_id in ipairs(invited) do
  redis.call('ZREM', KEYS[2], entry_id)
  redis.call('HSET', ARGV[3] .. entry_id, 'state', 'expired')
end
if #pending > 0 then
  redis.call('HINCRBY', KEYS[4], 'unconfirmed', #pending)
end
if #invited > 0 then
  redis.call('HINCRBY', KEYS[4], 'expired', #invited)
end
return {#pending, #invited}

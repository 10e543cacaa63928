-- Binds an address to its entry, once, and counts a referral.
--
-- KEYS[1] entry  [2] address bucket  [3] pending  [4] line  [5] statistics of the day
-- KEYS[6] account id of the address
-- ARGV[1] entry id  [2] field of the address in its bucket  [3] prefix of entries
-- ARGV[4] entry id whose link was followed, or '' where that does not count
-- ARGV[5] places a referral earns  [6] referrals that count for one person
-- Returns {'confirmed' or 'known', entry id}: known is the place that the address had before, and
-- this entry stays as it is. {'gone', ''} when its time to confirm is over.
--
-- A referral counts for an address that was never on the list before, so that leaving and coming
-- back over a friend's link, or a circle of friends, earns nothing.

local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  return {'gone', ''}
elseif state ~= 'pending' then
  return {'confirmed', ARGV[1]}
end

local earlier = redis.call('HGET', KEYS[2], ARGV[2])
if earlier then
  local earlier_state = redis.call('HGET', ARGV[3] .. earlier, 'state')
  if earlier_state == 'waiting' or earlier_state == 'invited' or earlier_state == 'redeemed' then
    return {'known', earlier}
  end
end

-- Whoever got an account by another code meanwhile has nothing to wait for.
local has_account = redis.call('EXISTS', KEYS[6]) == 1
redis.call('HSET', KEYS[1], 'state', has_account and 'redeemed' or 'waiting')
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[5], 'confirmed', 1)
if has_account then
  redis.call('ZREM', KEYS[4], ARGV[1])
  return {'confirmed', ARGV[1]}
end

local referrer = ARGV[4]
if referrer ~= '' and not earlier then
  local state_and_count = redis.call('HMGET', ARGV[3] .. referrer, 'state', 'referred')
  if state_and_count[1] == 'waiting' and tonumber(state_and_count[2] or 0) < tonumber(ARGV[6]) then
    redis.call('HINCRBY', ARGV[3] .. referrer, 'referred', 1)
    redis.call('ZINCRBY', KEYS[4], -tonumber(ARGV[5]), referrer)
    redis.call('HINCRBY', KEYS[5], 'referred', 1)
  end
end
return {'confirmed', ARGV[1]}

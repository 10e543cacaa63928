-- Withdraws those of a page of invites that are of a campaign and not used up.
--
-- KEYS[1] audit stream  [2..] one invite each
-- ARGV[1] now, ms  [2] actor  [3] campaign  [4] prefix of invites
-- Returns how many were withdrawn at this time, also when this was sent before.

local count = 0
for i = 2, #KEYS do
  local invite = redis.call('HMGET', KEYS[i], 'campaign', 'used_at_ms', 'revoked_at_ms')
  if invite[1] == ARGV[3] and not invite[2] and not invite[3] then
    redis.call('HSET', KEYS[i], 'revoked_at_ms', ARGV[1])
    redis.call('XADD', KEYS[1], '*', 'action', 'invite_revoked', 'actor', ARGV[2],
      'at_ms', ARGV[1], 'invite_id', string.sub(KEYS[i], #ARGV[4] + 1), 'campaign', ARGV[3])
    count = count + 1
  elseif invite[1] == ARGV[3] and invite[3] == ARGV[1] then
    count = count + 1
  end
end
return count

-- Withdraws an invite that was not redeemed.
--
-- KEYS[1] invite   KEYS[2] audit stream
-- ARGV[1] now, ms   [2] actor   [3] invite id   [4] digest of the code, or '' by the id alone
-- Returns 'revoked' (also when it was revoked before), 'code_used' or 'code_unknown'.

local invite = redis.call('HMGET', KEYS[1], 'digest', 'used_at_ms', 'revoked_at_ms')
if not invite[1] or ARGV[4] ~= '' and invite[1] ~= ARGV[4] then
  return 'code_unknown'
elseif invite[2] then
  return 'code_used'
elseif not invite[3] then
  redis.call('HSET', KEYS[1], 'revoked_at_ms', ARGV[1])
  redis.call('XADD', KEYS[2], '*', 'action', 'invite_revoked', 'actor', ARGV[2],
    'at_ms', ARGV[1], 'invite_id', ARGV[3])
end
return 'revoked'

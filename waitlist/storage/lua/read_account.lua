-- Reads an account with what it handed on. Changes nothing.
--
-- KEYS[1] account  [2] invites of the account  [3] guests of the account
-- ARGV[1] prefix of invites (same slot)  [2] most invites
-- Returns {e-mail, plan, created at, ms, invite id, inviter or nil, invites left or nil,
--   revoked at, ms or nil, entry or nil, number of guests, rows of
--   {invite id, created at, expires at or '', used at or nil, revoked at or nil}},
--   or nil when there is no such account.

local account = redis.call('HMGET', KEYS[1], 'email', 'plan', 'created_at_ms', 'invite_id',
  'inviter', 'invites_left', 'revoked_at_ms', 'entry')
if not account[2] then
  return false
end
local invites = {}
for _, invite_id in ipairs(redis.call('ZRANGE', KEYS[2], 0, ARGV[2] - 1, 'REV')) do
  local invite = redis.call('HMGET', ARGV[1] .. invite_id,
    'created_at_ms', 'expires_at_ms', 'used_at_ms', 'revoked_at_ms')
  invites[#invites + 1] = {invite_id, invite[1], invite[2], invite[3], invite[4]}
end
account[9] = redis.call('ZCARD', KEYS[3])
account[10] = invites
return account

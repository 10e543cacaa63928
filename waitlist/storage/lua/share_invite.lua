-- Makes one of the invites that an account may hand on.
--
-- KEYS[1] account  [2] invites of the account  [3] invite  [4] audit stream
-- ARGV[1] now, ms  [2] actor  [3] account id  [4] invite id  [5] digest of the code
-- ARGV[6] plan  [7] expiry, ms
-- Returns {'shared', invites left} or {reason of the refusal, 0}.

local invite_digest = redis.call('HGET', KEYS[3], 'digest')
local account = redis.call('HMGET', KEYS[1], 'plan', 'invites_left', 'revoked_at_ms')
local left = tonumber(account[2] or 0)
if invite_digest == ARGV[5] then
  return {'shared', left}
elseif invite_digest then
  return redis.error_reply('IDTAKEN an invite of this id exists')
elseif not account[1] or account[3] then
  return {'account_unknown', 0}
elseif left < 1 then
  return {'no_invites_left', 0}
end
redis.call('HSET', KEYS[3], 'digest', ARGV[5], 'plan', ARGV[6], 'note', '', 'batch_id', '',
  'created_at_ms', ARGV[1], 'expires_at_ms', ARGV[7], 'inviter', ARGV[3], 'transferable', '1')
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[4])
redis.call('HSET', KEYS[1], 'invites_left', left - 1)
redis.call('XADD', KEYS[4], '*', 'action', 'invite_shared', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'account_id', ARGV[3], 'invite_id', ARGV[4])
return {'shared', left - 1}

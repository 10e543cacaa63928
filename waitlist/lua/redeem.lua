-- Turns a code into an account with a key, exactly once. Everything is checked before the first
-- write, so a refusal leaves the code good.
--
-- KEYS[1] invite  [2] account id of the address  [3] account  [4] key
-- KEYS[5] keys by number  [6] last key number  [7] audit stream
-- ARGV[1] now, ms  [2] actor  [3] invite id  [4] digest of the code  [5] account id
-- ARGV[6] e-mail  [7] digest of the e-mail  [8] key id  [9] digest of the key  [10] key hint
-- Returns {'redeemed', plan} or {reason of the refusal}.
--
-- The ids are drawn anew for each attempt. A code that is used by this attempt's own key means
-- that its answer got lost and it was sent again: the answer is the same.

local invite = redis.call('HMGET', KEYS[1],
  'digest', 'plan', 'expires_at_ms', 'used_at_ms', 'revoked_at_ms', 'key_id')
local digest, plan, expires_at_ms, used_at_ms, revoked_at_ms, key_id = unpack(invite)

if digest ~= ARGV[4] then
  return {'code_unknown'}
elseif used_at_ms then
  if key_id == ARGV[8] then
    return {'redeemed', plan}
  end
  return {'code_used'}
elseif revoked_at_ms then
  return {'code_revoked'}
elseif expires_at_ms ~= '' and tonumber(expires_at_ms) <= tonumber(ARGV[1]) then
  return {'code_expired'}
elseif redis.call('EXISTS', KEYS[2]) == 1 then
  return {'email_has_account'}
elseif redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then
  return redis.error_reply('IDTAKEN an account or key of this id exists')
end

redis.call('HSET', KEYS[1], 'used_at_ms', ARGV[1], 'account_id', ARGV[5], 'key_id', ARGV[8])
redis.call('SET', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[3], 'email', ARGV[6], 'plan', plan, 'created_at_ms', ARGV[1],
  'invite_id', ARGV[3])
redis.call('HSET', KEYS[4], 'digest', ARGV[9], 'hint', ARGV[10], 'account_id', ARGV[5],
  'created_at_ms', ARGV[1])
redis.call('ZADD', KEYS[5], redis.call('INCR', KEYS[6]), ARGV[8])
redis.call('XADD', KEYS[7], '*', 'action', 'invite_redeemed', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'invite_id', ARGV[3], 'account_id', ARGV[5], 'key_id', ARGV[8], 'email_digest', ARGV[7])
return {'redeemed', plan}

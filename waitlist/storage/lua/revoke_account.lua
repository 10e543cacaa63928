-- Revokes an account with all its keys and the codes that it handed on; with a digest, erases its
-- address as well.
--
-- KEYS[1] account  [2] keys of the account  [3] audit stream  [4] account id of the address
-- ARGV[1] now, ms  [2] actor  [3] account id  [4] prefix of keys (same slot)  [5] channel
-- ARGV[6] digest of the address that is erased, or ''
-- Returns ids of all its keys, or nil when there is no such account. A second call announces the
-- keys again and changes nothing. Its codes need no write: redeeming looks at who handed them on.

local account = redis.call('HMGET', KEYS[1], 'plan', 'revoked_at_ms')
if not account[1] then
  return false
end
local key_ids = redis.call('ZRANGE', KEYS[2], 0, -1)
for _, key_id in ipairs(key_ids) do
  if redis.call('HSETNX', ARGV[4] .. key_id, 'revoked_at_ms', ARGV[1]) == 1 then
    redis.call('XADD', KEYS[3], '*', 'action', 'key_revoked', 'actor', ARGV[2], 'at_ms', ARGV[1],
      'key_id', key_id, 'account_id', ARGV[3])
  end
  redis.call('PUBLISH', ARGV[5], key_id)
end
if not account[2] then
  redis.call('HSET', KEYS[1], 'revoked_at_ms', ARGV[1])
  redis.call('XADD', KEYS[3], '*', 'action', 'account_revoked', 'actor', ARGV[2],
    'at_ms', ARGV[1], 'account_id', ARGV[3])
end
if ARGV[6] ~= '' and redis.call('HDEL', KEYS[1], 'email') == 1 then
  if redis.call('GET', KEYS[4]) == ARGV[3] then
    redis.call('DEL', KEYS[4])
  end
  redis.call('XADD', KEYS[3], '*', 'action', 'account_erased', 'actor', ARGV[2],
    'at_ms', ARGV[1], 'account_id', ARGV[3], 'email_digest', ARGV[6])
end
return key_ids

-- Revokes a key for good and announces it. A second call announces it again and changes nothing.
--
-- KEYS[1] key   KEYS[2] audit stream
-- ARGV[1] now, ms   [2] actor   [3] key id   [4] channel   [5] account that must own it, or ''
-- ARGV[6] digest that the key must have, or ''
-- Returns {account id, revoked at, ms}, or nil when there is no such key.

local key = redis.call('HMGET', KEYS[1], 'account_id', 'revoked_at_ms', 'digest')
local account_id, revoked_at_ms = key[1], key[2]
if not account_id or ARGV[5] ~= '' and ARGV[5] ~= account_id
  or ARGV[6] ~= '' and ARGV[6] ~= key[3] then
  return false
end
if not revoked_at_ms then
  revoked_at_ms = ARGV[1]
  redis.call('HSET', KEYS[1], 'revoked_at_ms', revoked_at_ms)
  redis.call('XADD', KEYS[2], '*', 'action', 'key_revoked', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'key_id', ARGV[3], 'account_id', account_id)
end
redis.call('PUBLISH', ARGV[4], ARGV[3])
return {account_id, revoked_at_ms}

-- Finds a key and the plan of its account.
--
-- KEYS[1] key   ARGV[1] digest of the key   ARGV[2] prefix of accounts (same slot as KEYS[1])
-- Returns {account id, plan, revoked at, ms or nil, end, ms or nil}, or nil when there is no such
-- key.

local key = redis.call('HMGET', KEYS[1], 'digest', 'account_id', 'revoked_at_ms', 'expires_at_ms')
if key[1] ~= ARGV[1] then
  return false
end
return {key[2], redis.call('HGET', ARGV[2] .. key[2], 'plan'), key[3], key[4]}

-- Reads the newest keys of an account. Changes nothing.
--
-- KEYS[1] keys of the account   ARGV[1] prefix of keys (same slot)  [2] most
-- Returns rows of {key id, hint, name or nil, created at, revoked at or nil, end or nil}, in ms.

local rows = {}
for _, key_id in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1, 'REV')) do
  local key = redis.call('HMGET', ARGV[1] .. key_id,
    'hint', 'name', 'created_at_ms', 'revoked_at_ms', 'expires_at_ms')
  rows[#rows + 1] = {key_id, key[1], key[2], key[3], key[4], key[5]}
end
return rows

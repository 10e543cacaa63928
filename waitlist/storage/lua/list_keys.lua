-- Reads one page of keys, in the order in which they were made.
--
-- KEYS[1] keys by number
-- ARGV[1] number of the last key that was read (0 at first)   [2] keys a page
-- ARGV[3] prefix of keys   [4] prefix of accounts (all in one slot)
-- Returns {number of the last key of this page, rows of
--   {key id, account id, e-mail, plan, hint, created at ms, revoked at ms or nil}}.

local page = redis.call('ZRANGE', KEYS[1], '(' .. ARGV[1], '+inf', 'BYSCORE',
  'LIMIT', 0, ARGV[2], 'WITHSCORES')
local rows = {}
for i = 1, #page, 2 do
  local key = redis.call('HMGET', ARGV[3] .. page[i],
    'account_id', 'hint', 'created_at_ms', 'revoked_at_ms')
  local account = redis.call('HMGET', ARGV[4] .. key[1], 'email', 'plan')
  rows[#rows + 1] = {page[i], key[1], account[1], account[2], key[2], key[3], key[4]}
end
return {page[#page] or ARGV[1], rows}

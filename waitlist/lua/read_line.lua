-- Reads people at the head of the line. Changes nothing.
--
-- KEYS[1] line   ARGV[1] least score  [2] how many  [3] prefix of entries (same slot)
-- Returns rows of {entry id, score, state, e-mail} in the order of the line.

local page = redis.call('ZRANGE', KEYS[1], ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2],
  'WITHSCORES')
local rows = {}
for i = 1, #page, 2 do
  local entry = redis.call('HMGET', ARGV[3] .. page[i], 'state', 'email')
  rows[#rows + 1] = {page[i], page[i + 1], entry[1], entry[2]}
end
return rows

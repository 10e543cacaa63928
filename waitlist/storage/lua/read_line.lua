-- Reads who waits at the head of the line, past those who have not confirmed. Changes nothing.
--
-- KEYS[1] line   ARGV[1] least score  [2] how many people  [3] places looked at, at most
-- ARGV[4] prefix of entries (same slot)
-- Returns {score of the last place looked at, '1' where the line ends with it, else '',
--   {entry id, e-mail} of those who wait, in the order of the line}.

local page = redis.call('ZRANGE', KEYS[1], ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3],
  'WITHSCORES')
local people, last = {}, ARGV[1]
for i = 1, #page, 2 do
  local entry = redis.call('HMGET', ARGV[4] .. page[i], 'state', 'email')
  last = page[i + 1]
  if entry[1] == 'waiting' and entry[2] then
    people[#people + 1] = {page[i], entry[2]}
    if #people == tonumber(ARGV[2]) then
      return {last, '', people}
    end
  end
end
return {last, #page < 2 * tonumber(ARGV[3]) and '1' or '', people}

-- Checks a page of a sorted set of places: each has its entry.
--
-- KEYS[1] the sorted set   ARGV[1] rank of the page's first  [2] places a page  [3] prefix of entries
-- Returns {rows that were read, {subject, what is wrong with it} pairs, flat}.

local page = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local wrong = {}
for _, id in ipairs(page) do
  if redis.call('EXISTS', ARGV[3] .. id) == 0 then
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = 'it has a place, but is not there'
  end
end
return {#page, wrong}

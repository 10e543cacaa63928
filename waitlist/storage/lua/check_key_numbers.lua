-- Checks a page of the keys by number: each names a key, no number comes twice, none is too large.
--
-- KEYS[1] keys by number  [2] last key number
-- ARGV[1] rank of the page's first  [2] keys a page  [3] prefix of keys
-- Returns {rows that were read, {subject, what is wrong with it} pairs, flat}.

local page = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1, 'WITHSCORES')
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local wrong = {}
for i = 1, #page, 2 do
  local number = tonumber(page[i + 1])
  local function tell(what)
    wrong[#wrong + 1] = page[i]
    wrong[#wrong + 1] = what
  end
  if redis.call('EXISTS', ARGV[3] .. page[i]) == 0 then
    tell('it has the number ' .. number .. ', but is not there')
  end
  if redis.call('ZCOUNT', KEYS[1], number, number) > 1 then
    tell('another key has its number ' .. number)
  end
  if number > last then
    tell('its number ' .. number .. ' is above the last one given, ' .. last)
  end
end
return {#page / 2, wrong}

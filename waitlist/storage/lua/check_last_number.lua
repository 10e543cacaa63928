-- Checks the last number of the line: none that was given is above it, or the next join would stand
-- before somebody who is there.
--
-- KEYS[1] line  [2] last number of the line
-- Returns {entry id, what is wrong} or nothing, flat.

local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
local number = tonumber(redis.call('GET', KEYS[2]) or '0')
if #last > 0 and tonumber(last[2]) > number then
  return {last[1], 'its number ' .. last[2] .. ' is above the last one given, ' .. number}
end
return {}

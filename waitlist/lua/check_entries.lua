-- Checks a page of entries: each is in the line or among the invited as its state says.
--
-- KEYS[1] line  [2] invited  [3..] one entry each
-- ARGV[1] prefix of entries  [2] prefix of invites
-- Returns {subject, what is wrong with it} pairs, flat.

local in_line = {pending = true, waiting = true}
local wrong = {}
for i = 3, #KEYS do
  local id = string.sub(KEYS[i], #ARGV[1] + 1)
  local entry = redis.call('HMGET', KEYS[i], 'state', 'invite')
  local state, invite_id = entry[1], entry[2]
  local function tell(what)
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local has_place = redis.call('ZSCORE', KEYS[1], id) and true or false
    local is_invited = redis.call('ZSCORE', KEYS[2], id) and true or false
    if has_place ~= (in_line[state] or false) then
      tell('it is ' .. (state or 'in no state') .. (has_place and ', but in the line' or
        ', but not in the line'))
    end
    if is_invited ~= (state == 'invited') then
      tell('it is ' .. (state or 'in no state') .. (is_invited and ', but among the invited' or
        ', but not among the invited'))
    end
    if state == 'invited' and (not invite_id or
        redis.call('HGET', ARGV[2] .. invite_id, 'entry') ~= id) then
      tell('its invite ' .. (invite_id or '') .. ' is not there or for another place')
    end
  end
end
return wrong

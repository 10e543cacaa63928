-- Checks a page of entries: each is in the line, among the pending or the invited as its state says,
-- its address leads to a place, and who redeemed has an account.
--
-- KEYS[1] line  [2] invited  [3] pending  [4..] one entry each, then as many address buckets, then as
--   many account ids of addresses, of each entry's address
-- ARGV[1] prefix of entries  [2] prefix of invites  [3] prefix of accounts
-- ARGV[4..] field of each entry's address in its bucket
-- Returns {subject, what is wrong with it} pairs, flat.

local in_line = {pending = true, waiting = true}
local wrong = {}
local count = (#KEYS - 3) / 3
for i = 1, count do
  local name, bucket, of_address = KEYS[3 + i], KEYS[3 + count + i], KEYS[3 + 2 * count + i]
  local id = string.sub(name, #ARGV[1] + 1)
  local entry = redis.call('HMGET', name, 'state', 'invite', 'email', 'at')
  local state, invite_id, email = entry[1], entry[2], entry[3]
  local function tell(what)
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
  local function compare(set, among, wanted)
    local is_there = redis.call('ZSCORE', set, id) and true or false
    if is_there ~= wanted then
      tell('it is ' .. (state or 'in no state') .. (is_there and ', but ' or ', but not ') .. among)
    end
  end
  if redis.call('EXISTS', name) == 1 then
    if not entry[4] then
      tell('it lacks its time of joining')
    end
    compare(KEYS[1], 'in the line', in_line[state] or false)
    compare(KEYS[2], 'among the invited', state == 'invited')
    compare(KEYS[3], 'among the pending', state == 'pending')
    if state == 'invited' and (not invite_id or
        redis.call('HGET', ARGV[2] .. invite_id, 'entry') ~= id) then
      tell('its invite ' .. (invite_id or '') .. ' is not there or for another place')
    end
    -- Of two places of one address the index leads to the later one.
    if email and (state == 'waiting' or state == 'invited') and
        redis.call('HEXISTS', bucket, ARGV[3 + i]) == 0 then
      tell('its address does not lead to any place')
    end
    if email and state == 'redeemed' then
      local account_id = redis.call('GET', of_address) or
        invite_id and redis.call('HGET', ARGV[2] .. invite_id, 'account_id')
      if not account_id or redis.call('EXISTS', ARGV[3] .. account_id) == 0 then
        tell('it is redeemed, but there is no account of it')
      end
    end
  end
end
return wrong

-- Checks a page of keys: each has its account and its number.
--
-- KEYS[1] keys by number   KEYS[2..] one key each
-- ARGV[1] prefix of keys  [2] prefix of accounts  [3] prefix of accounts' keys, '' before schema 2
-- Returns {subject, what is wrong with it} pairs, flat.

local wrong = {}
for i = 2, #KEYS do
  local name = KEYS[i]
  local id = string.sub(name, #ARGV[1] + 1)
  local key = redis.call('HMGET', name, 'digest', 'hint', 'account_id', 'created_at_ms')
  local digest, hint, account_id, created_at_ms = unpack(key, 1, 4)
  local function tell(what)
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
  if redis.call('EXISTS', name) == 1 then
    if not digest or not hint or not account_id or not created_at_ms then
      tell('it lacks digest, hint, account or time of making')
    elseif string.sub(digest, 1, 24) ~= string.sub(id, 5) then
      tell('its id does not fit its digest')
    end
    if account_id then
      if redis.call('EXISTS', ARGV[2] .. account_id) == 0 then
        tell('its account ' .. account_id .. ' is not there')
      end
      if ARGV[3] ~= '' and not redis.call('ZSCORE', ARGV[3] .. account_id, id) then
        tell('it is not among the keys of its account ' .. account_id)
      end
    end
    if not redis.call('ZSCORE', KEYS[1], id) then
      tell('it has no number')
    end
  end
end
return wrong

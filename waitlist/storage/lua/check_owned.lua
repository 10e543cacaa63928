-- Checks a page of the sets of what accounts have: each member is there and names its owner.
--
-- KEYS one sorted set each
-- ARGV[1] prefix of the sets  [2] prefix of their members  [3] the members' field that names the
--   owner  [4] prefix of accounts
-- Returns {owner, what is wrong} pairs, flat.

local wrong = {}
for _, name in ipairs(KEYS) do
  local owner = string.sub(name, #ARGV[1] + 1)
  local members = redis.call('ZRANGE', name, 0, -1)
  local function tell(what)
    wrong[#wrong + 1] = owner
    wrong[#wrong + 1] = what
  end
  if #members > 0 and redis.call('EXISTS', ARGV[4] .. owner) == 0 then
    tell('its account is not there')
  end
  for _, id in ipairs(members) do
    if redis.call('HGET', ARGV[2] .. id, ARGV[3]) ~= owner then
      tell('it has ' .. id .. ', which is not there or another account\'s')
    end
  end
end
return wrong

-- Checks a page of accounts: each came by an invite that names it, its address leads to it, its
-- place is redeemed, and whose invite it came by has it as a guest.
--
-- KEYS[1..] one account each, then as many address records, each of the account's address
-- ARGV[1] prefix of accounts  [2] prefix of invites  [3] prefix of guests  [4] prefix of entries
-- Returns {subject, what is wrong with it} pairs, flat.

local wrong = {}
local half = #KEYS / 2
for i = 1, half do
  local name = KEYS[i]
  local id = string.sub(name, #ARGV[1] + 1)
  local account = redis.call('HMGET', name, 'email', 'plan', 'created_at_ms', 'invite_id',
    'inviter', 'entry')
  local email, plan, created_at_ms, invite_id, inviter, entry_id = unpack(account, 1, 6)
  local function tell(what)
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
  if redis.call('EXISTS', name) == 1 then
    if not plan or not created_at_ms or not invite_id then
      tell('it lacks plan, time of making or invite')
    end
    if invite_id then
      local invite = redis.call('HMGET', ARGV[2] .. invite_id,
        'digest', 'used_at_ms', 'account_id', 'uses_max')
      if not invite[1] then
        tell('its invite ' .. invite_id .. ' is not there')
      elseif not invite[4] and not invite[2] then
        tell('its invite ' .. invite_id .. ' is not used')
      elseif not invite[4] and invite[3] ~= id then
        tell('its invite ' .. invite_id .. ' made another account')
      end
    end
    if inviter and not redis.call('ZSCORE', ARGV[3] .. inviter, id) then
      tell('it is not among the guests of ' .. inviter)
    end
    if entry_id and redis.call('HGET', ARGV[4] .. entry_id, 'state') ~= 'redeemed' then
      tell('its place ' .. entry_id .. ' is not there or not redeemed')
    end
    if email and redis.call('GET', KEYS[half + i]) ~= id then
      tell('its address does not lead to it')
    end
  end
end
return wrong

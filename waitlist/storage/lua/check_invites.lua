-- Checks a page of invites: each that is used up has the account and the key that it made.
--
-- KEYS one invite each
-- ARGV[1] prefix of invites  [2] prefix of accounts  [3] prefix of keys
-- ARGV[4] prefix of accounts' invites
-- Returns {subject, what is wrong with it} pairs, flat. One script, so that a redemption stands
-- either before it or after it, whole.

local wrong = {}
for _, name in ipairs(KEYS) do
  local id = string.sub(name, #ARGV[1] + 1)
  local invite = redis.call('HMGET', name,
    'digest', 'plan', 'used_at_ms', 'account_id', 'key_id', 'uses_max', 'created_at_ms',
    'inviter')
  local digest, plan, used_at_ms, account_id, key_id, uses_max, created_at_ms = unpack(invite, 1, 7)
  local inviter = invite[8]
  local function tell(what)
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
  if redis.call('EXISTS', name) == 1 then
    if not digest or not plan or not created_at_ms then
      tell('it lacks digest, plan or time of making')
    elseif string.sub(digest, 1, 24) ~= string.sub(id, 5) then
      tell('its id does not fit its digest')
    end
    if inviter and not redis.call('ZSCORE', ARGV[4] .. inviter, id) then
      tell('it is not among the invites of ' .. inviter)
    end
    if not used_at_ms and (account_id or key_id) then
      tell('it has an account though it is not used')
    elseif used_at_ms and not uses_max then
      if not account_id or redis.call('HGET', ARGV[2] .. account_id, 'invite_id') ~= id then
        tell('it is used, but its account ' .. (account_id or '') .. ' is not there or not by it')
      end
      if not key_id or redis.call('HGET', ARGV[3] .. key_id, 'account_id') ~= account_id then
        tell('it is used, but its key ' .. (key_id or '') .. ' is not there or another account\'s')
      end
    end
  end
end
return wrong

-- Checks a page of the audit: what it says was redeemed or revoked is there, and is that.
--
-- KEYS[1] audit stream
-- ARGV[1] id of the last entry that was read ('-' at first)  [2] entries a page
-- ARGV[3] prefix of invites  [4] prefix of accounts  [5] prefix of keys
-- Returns {id of the last entry or '', rows that were read, {subject, what is wrong} pairs, flat,
--   ids of the accounts that the page tells of}.

local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
local wrong, accounts = {}, {}
for _, row in ipairs(page) do
  local entry = {}
  for i = 1, #row[2], 2 do
    entry[row[2][i]] = row[2][i + 1]
  end
  local function tell(what)
    wrong[#wrong + 1] = row[1]
    wrong[#wrong + 1] = what
  end
  if entry.action == 'invite_redeemed' then
    accounts[#accounts + 1] = entry.account_id
    for prefix, id in pairs({[ARGV[3]] = entry.invite_id, [ARGV[4]] = entry.account_id,
        [ARGV[5]] = entry.key_id}) do
      if redis.call('EXISTS', prefix .. id) == 0 then
        tell('a redemption of ' .. id .. ', which is not there')
      end
    end
  elseif entry.action == 'key_revoked' then
    if redis.call('HEXISTS', ARGV[5] .. entry.key_id, 'revoked_at_ms') == 0 then
      tell('a revocation of ' .. entry.key_id .. ', which is not revoked')
    end
  end
end
return {#page > 0 and page[#page][1] or '', #page, wrong, accounts}

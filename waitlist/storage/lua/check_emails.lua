-- Checks a page of addresses: each leads to an account that is there.
--
-- KEYS one address record each
-- ARGV[1] prefix of address records  [2] prefix of accounts
-- Returns {subject, what is wrong with it, account id, its e-mail or ''} in fours, flat: only what
-- stands outside Redis can compare an address with its digest.

local rows = {}
for _, name in ipairs(KEYS) do
  local account_id = redis.call('GET', name)
  if account_id then
    local what = ''
    if redis.call('EXISTS', ARGV[2] .. account_id) == 0 then
      what = 'it leads to the account ' .. account_id .. ', which is not there'
    end
    rows[#rows + 1] = string.sub(name, #ARGV[1] + 1)
    rows[#rows + 1] = what
    rows[#rows + 1] = account_id
    rows[#rows + 1] = redis.call('HGET', ARGV[2] .. account_id, 'email') or ''
  end
end
return rows

-- What a page of the audit tells of people on their way in.
--
-- KEYS[1] audit stream
-- ARGV[1] id of the last entry that was read  [2] entries a page  [3] prefix of invites
-- ARGV[4] prefix of accounts
-- Returns {id of the last entry or '', rows of
--   {'invited', at ms, people}, {'redeemed', at ms, invited at ms or ''},
--   {'first_request', at ms, redeemed at ms}}.
-- Codes that were made by hand may lie in a drawer for months: only invites of the line tell how
-- soon people come, so those of others have no time of invitation here.

local page = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local rows = {}
for _, row in ipairs(page) do
  local entry = {}
  for i = 1, #row[2], 2 do
    entry[row[2][i]] = row[2][i + 1]
  end
  if entry.action == 'people_invited' then
    rows[#rows + 1] = {'invited', entry.at_ms, entry.count}
  elseif entry.action == 'invite_redeemed' then
    local invite = redis.call('HMGET', ARGV[3] .. entry.invite_id, 'created_at_ms', 'entry')
    rows[#rows + 1] = {'redeemed', entry.at_ms, invite[2] and invite[1] or ''}
  elseif entry.action == 'first_request' then
    local redeemed_at_ms = redis.call('HGET', ARGV[4] .. entry.account_id, 'created_at_ms')
    rows[#rows + 1] = {'first_request', entry.at_ms, redeemed_at_ms or entry.at_ms}
  end
end
return {#page > 0 and page[#page][1] or '', rows}

-- What a page of accounts counts for. Changes nothing.
--
-- KEYS one account each   ARGV[1] prefix of accounts  [2] prefix of invites
-- Returns {account id, campaign of its code or '', its code for many or ''} in threes, flat, of
--   those that count for anything.

local rows = {}
for _, name in ipairs(KEYS) do
  local invite_id = redis.call('HGET', name, 'invite_id')
  if invite_id then
    local invite = redis.call('HMGET', ARGV[2] .. invite_id, 'campaign', 'uses_max')
    if invite[1] or invite[2] then
      rows[#rows + 1] = string.sub(name, #ARGV[1] + 1)
      rows[#rows + 1] = invite[1] or ''
      rows[#rows + 1] = invite[2] and invite_id or ''
    end
  end
end
return rows

-- What a page of invites counts for. Changes nothing.
--
-- KEYS one invite each   ARGV[1] prefix of invites
-- Returns {invite id, batch that let its person in or '', campaign or '', uses of a code for many or
--   ''} in fours, flat, of those that count for anything.

local rows = {}
for _, name in ipairs(KEYS) do
  local invite = redis.call('HMGET', name, 'entry', 'batch_id', 'campaign', 'uses_max', 'uses')
  local batch_id = invite[1] and invite[2] or ''
  local uses = invite[4] and (invite[5] or '0') or ''
  if batch_id ~= '' or invite[3] or uses ~= '' then
    for _, value in ipairs({string.sub(name, #ARGV[1] + 1), batch_id, invite[3] or '', uses}) do
      rows[#rows + 1] = value
    end
  end
end
return rows

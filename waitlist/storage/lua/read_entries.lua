-- Reads entries and their places. Changes nothing.
--
-- KEYS[1] line  [2] invited   ARGV[1] prefix of entries  [2..] entry ids (all in one slot)
-- Returns one row for each id, or false where there is no entry:
--   {state, people ahead or nil, joined at, ms, e-mail or nil, locale or nil, referred by or nil,
--    how many it referred or nil, end of its invite, ms, or nil, batch or nil, invite id or nil,
--    mute or nil, note or nil, consent or nil}

local rows = {}
for i = 2, #ARGV do
  local e = redis.call('HMGET', ARGV[1] .. ARGV[i], 'state', 'at', 'email', 'locale', 'by',
    'referred', 'batch', 'invite', 'mute', 'note', 'consent')
  if e[1] then
    rows[i - 1] = {e[1], redis.call('ZRANK', KEYS[1], ARGV[i]), e[2], e[3], e[4], e[5], e[6],
      redis.call('ZSCORE', KEYS[2], ARGV[i]), e[7], e[8], e[9], e[10], e[11]}
  else
    rows[i - 1] = false
  end
end
return rows

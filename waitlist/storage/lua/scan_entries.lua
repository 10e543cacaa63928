-- Finds some of all entries. Changes nothing.
--
-- KEYS[1] any key of the ledger   ARGV[1] cursor, '0' at first  [2] prefix of entries  [3] effort
-- Returns {next cursor, '0' at the end, entry ids}. An entry that is there all the time comes up at
-- least once; some may come up twice.

local found = redis.call('SCAN', ARGV[1], 'MATCH', (ARGV[2]:gsub('[{}%[%]*?\\]', '\\%0')) .. '*',
  'COUNT', ARGV[3])
local ids = {}
for i, name in ipairs(found[2]) do
  ids[i] = name:sub(#ARGV[2] + 1)
end
return {found[1], ids}

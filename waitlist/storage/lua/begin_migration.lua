-- Begins a migration, or goes on with it.
--
-- KEYS[1] schema  [2] cursor of the migration   ARGV[1] version it comes from  [2] version it leads to
-- Returns the cursor, or nil when the ledger is at neither.

local under_way = ARGV[1] .. '>' .. ARGV[2]
local schema = redis.call('GET', KEYS[1])
if schema == ARGV[1] then
  redis.call('SET', KEYS[1], under_way)
  redis.call('SET', KEYS[2], '0')
elseif schema ~= under_way then
  return false
end
return redis.call('GET', KEYS[2]) or '0'

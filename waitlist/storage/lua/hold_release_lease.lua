-- Takes the lease of automatic release, or renews it for who holds it.
--
-- KEYS[1] lease  [2] last token   ARGV[1] holder  [2] life, ms
-- Returns the fencing token, or 0 where somebody else holds it.

local lease = redis.call('GET', KEYS[1])
if not lease then
  local token = redis.call('INCR', KEYS[2])
  redis.call('SET', KEYS[1], string.format('%d:%s', token, ARGV[1]), 'PX', ARGV[2])
  return token
end
local token, holder = string.match(lease, '^(%d+):(.*)$')
if holder ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(token)

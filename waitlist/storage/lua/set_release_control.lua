-- Sets what operators say about automatic release, and notes who said it.
--
-- KEYS[1] control  [2] audit stream
-- ARGV[1] now, ms  [2] actor  [3..] field, value (JSON; '' takes it back), …
-- Returns all of it, as field, value, …. A second time changes nothing, and is not noted.

local changed = {}
for i = 3, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  if before ~= ARGV[i + 1] then
    changed[#changed + 1] = ARGV[i]
    changed[#changed + 1] = ARGV[i + 1]
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
end
if #changed > 0 then
  redis.call('XADD', KEYS[2], '*', 'action', 'release_controlled', 'actor', ARGV[2],
    'at_ms', ARGV[1], unpack(changed))
end
return redis.call('HGETALL', KEYS[1])

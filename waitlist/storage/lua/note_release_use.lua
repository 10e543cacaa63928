-- Adds a sample of serving's use to its hour.
--
-- KEYS[1] lease  [2] hours
-- ARGV[1] `<token>:<holder>`  [2] id of the sample  [3] hour since 1970  [4] demand, slots
-- ARGV[5] people in  [6] hours that are kept
-- Returns 1, or 0 where the lease is somebody else's. Twice the same sample counts once.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local sum, samples, last = 0, 0, ''
local kept = redis.call('HGET', KEYS[2], ARGV[3])
if kept then
  local fields = {}
  for field in string.gmatch(kept, '%S+') do
    fields[#fields + 1] = field
  end
  sum, samples, last = tonumber(fields[1]), tonumber(fields[2]), fields[4]
end
if last ~= ARGV[2] then
  redis.call('HSET', KEYS[2], ARGV[3], string.format('%.6f %d %s %s',
    sum + tonumber(ARGV[4]), samples + 1, ARGV[5], ARGV[2]))
end
if redis.call('HLEN', KEYS[2]) > tonumber(ARGV[6]) then
  for _, hour in ipairs(redis.call('HKEYS', KEYS[2])) do
    if tonumber(hour) <= tonumber(ARGV[3]) - tonumber(ARGV[6]) then
      redis.call('HDEL', KEYS[2], hour)
    end
  end
end
return 1

-- Records of a model's living replicas, as JSON texts.
-- KEYS[1] replica index   ARGV[1] prefix of the records
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local records = {}
for _, replica in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local record = redis.call('GET', ARGV[1] .. replica)
  if record then records[#records + 1] = record end
end
return records

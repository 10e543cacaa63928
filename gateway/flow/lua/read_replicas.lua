-- A model's own record ('' where nobody keeps it), then those of its living replicas, as JSON texts.
-- KEYS[1] replica index   KEYS[2] the model's record   ARGV[1] prefix of the replicas' records
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local records = { redis.call('GET', KEYS[2]) or '' }
for _, replica in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local record = redis.call('GET', ARGV[1] .. replica)
  if record then records[#records + 1] = record end
end
return records

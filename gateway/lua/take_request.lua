-- One request against an account's rate, and the check that its key was not revoked.
-- GCRA (ITU-T I.371): a request is allowed while its theoretical arrival time is at most one
-- full minute ahead, so that an idle account may use its whole minute at once.
-- KEYS[1] rate key of the account   KEYS[2] set of the account's revoked key ids
-- ARGV[1] key id   ARGV[2] requests per minute
-- Returns {1 allowed | 0 refused | -1 revoked, remaining, reset in ms, retry after in ms}
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then
  return {-1, 0, 0, 0}
end
local limit = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval = 60000 / limit
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
if arrival < now then arrival = now end
local next_arrival = arrival + interval
local ahead = next_arrival - now
if ahead > 60000 + 0.001 then
  return {0, 0, math.ceil(arrival - now), math.ceil(ahead - 60000)}
end
redis.call('SET', KEYS[1], string.format('%.3f', next_arrival), 'PX', math.ceil(ahead) + 1000)
return {1, math.floor((60000 - ahead) / interval + 0.000001), math.ceil(ahead), 0}

-- One request against an account's rate, and the check that its key was not revoked.
-- GCRA (ITU-T I.371): a request is allowed while its theoretical arrival time is at most one
-- full minute ahead, so that an idle account may use its whole minute at once.
-- KEYS[1] rate key of the account   KEYS[2] set of the account's revoked key ids
-- ARGV[1] key id   ARGV[2] requests per minute
-- Returns {1 allowed | 0 refused | -1 revoked, remaining, reset in ms, retry after in ms}
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then
  return {-1, 0, 0, 0}
end
-- In microseconds: whole numbers of that size are exact in a double, fractions to a quarter.
local limit = tonumber(ARGV[2])
local window = 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = window / limit
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
if arrival < now then arrival = now end
local next_arrival = arrival + interval
local ahead = next_arrival - now
if ahead > window + 1 then
  return {0, 0, math.ceil((arrival - now) / 1000), math.ceil((ahead - window) / 1000)}
end
redis.call('SET', KEYS[1], string.format('%.2f', next_arrival),
  'PX', math.ceil(ahead / 1000) + 1000)
-- A hundredth of a request makes up for the quarter of a microsecond.
local remaining = math.floor((window - ahead) / interval + 0.01)
return {1, remaining, math.ceil((ahead - 1) / 1000), 0}

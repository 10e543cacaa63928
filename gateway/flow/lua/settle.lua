-- Corrects what requests of one account were charged to what they used. A batch that is sent again
-- is counted once.
--
-- Tokens that a reservation did not use go back into today's budget. Into the minute they go, as a
-- request that is given back, as far as they have not leaked out of the bucket since: an account
-- does not save up old minutes.
--
-- KEYS[1] limits of the account   KEYS[2] the last batch of this worker
-- ARGV[1] number of the batch   [2] how long that is remembered, ms
-- ARGV[3] requests a minute   [4] tokens a minute, then for each request a text of eight numbers:
--   day of its charge, since when that day was counted (us), tokens reserved, tokens used,
--   when the reserved ones have leaked out (us), when it ended (us), requests to give back, when
--   the request has leaked out (us)
-- Returns 1, or 0 when this batch was counted before.
local UNITS = 60000000
local last = redis.call('GET', KEYS[2])
if last and tonumber(last) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])

local request_limit, token_limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[1],
  'at', 'requests', 'tokens', 'day', 'day_tokens', 'day_since')
local elapsed = math.max(0, now - tonumber(state[1] or now))
local requests = math.max(0, tonumber(state[2] or 0) - elapsed * request_limit)
local tokens = math.max(0, tonumber(state[3] or 0) - elapsed * token_limit)
local day, day_tokens = tonumber(state[4] or -1), tonumber(state[5] or 0)
local day_since = tonumber(state[6] or 0)

for i = 5, #ARGV do
  local numbers = {}
  for number in string.gmatch(ARGV[i], '%d+') do numbers[#numbers + 1] = tonumber(number) end
  local charged_day, charged_since, reserved, used, leaked_at, ended_at = unpack(numbers)
  local back, request_leaked_at = numbers[7], numbers[8]
  local unused = (reserved - used) * UNITS
  if unused > 0 then
    unused = math.min(unused, math.max(0, leaked_at - now) * token_limit)
  end
  tokens = math.max(0, tokens - unused)
  local not_leaked = math.max(0, request_leaked_at - now) * request_limit
  requests = math.max(0, requests - math.min(back * UNITS, not_leaked))
  if charged_day == day and charged_since == day_since then
    day_tokens = math.max(0, day_tokens - reserved + used)
  elseif charged_day == day and ended_at >= day_since then
    -- Charged before today's count was taken from the ledger anew, ended after: not in it yet.
    day_tokens = day_tokens + used
  end
end

local life_ms = math.ceil(math.max(requests / request_limit, tokens / token_limit) / 1000) + 1000
life_ms = math.max(life_ms, redis.call('PTTL', KEYS[1]))
redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now),
  'requests', string.format('%.0f', requests), 'tokens', string.format('%.0f', tokens))
if day >= 0 then
  redis.call('HSET', KEYS[1], 'day_tokens', string.format('%.0f', day_tokens))
end
redis.call('PEXPIRE', KEYS[1], life_ms)
return 1

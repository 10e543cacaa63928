-- One request against all limits of its account: that its key was not revoked, requests a minute,
-- tokens a minute, tokens a day. All or nothing: a refusal changes nothing.
--
-- A rate is a bucket that leaks (ITU-T I.371, GCRA): what was used leaks out at the plan's rate,
-- and what fits on top may be used at once. It is kept in units of which a request or a token has
-- 60,000,000 and which leak by the limit each microsecond: whole numbers, so nothing drifts.
--
-- KEYS[1] limits of the account   KEYS[2] set of the account's revoked key ids
-- ARGV[1] key id
-- ARGV[2] requests a minute, tokens a minute, tokens a day (0: no limit), prompt tokens, choices,
--   output tokens wanted for each choice, the least of them worth having, until when its caller
--   waits for the answer (us by this server's clock; 0: not known): one text with spaces, since
--   each argument costs the gateway 2 us
-- ARGV[3] '' or a day, tokens used on it, and 1 where that is the ledger's word, 0 where a guess
-- Returns {1 reserved | 2 no request left | 3 no token | 4 none today, output tokens a choice,
--   requests left, ms until all are, tokens left, ms until all are, tokens left today,
--   ms until tomorrow, today, since when today is counted (us), when these tokens have leaked out
--   (us), ms to wait, when this request has leaked out (us), now (us), 1 where today's count is a
--   guess}, {-1} for a revoked key, {-2, today} where today's use must be asked of the ledger
--   first, {-3, now} where nobody waits for the answer any more.
local UNITS = 60000000
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return {-1} end
local numbers = {}
for number in string.gmatch(ARGV[2], '%d+') do numbers[#numbers + 1] = tonumber(number) end
local request_limit, token_limit, day_limit, prompt, choices, cap, cap_min = unpack(numbers)
local waited_for_until = numbers[8]
local seed_day, seed_tokens, seed_known = string.match(ARGV[3], '^(%d+) (%d+) (%d)$')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- A server that stood still executes what it was sent meanwhile: nobody would settle this charge.
if waited_for_until > 0 and now > waited_for_until then return {-3, now} end
local today = math.floor(time[1] / 86400)
local until_tomorrow_ms = (86400 - time[1] % 86400) * 1000

local state = redis.call('HMGET', KEYS[1],
  'at', 'requests', 'tokens', 'day', 'day_tokens', 'day_since', 'day_guessed')
-- A clock that was set back must not hold an account up: nothing leaks, and it goes on from here.
local elapsed = math.max(0, now - tonumber(state[1] or now))
local requests = math.max(0, tonumber(state[2] or 0) - elapsed * request_limit)
local tokens = math.max(0, tonumber(state[3] or 0) - elapsed * token_limit)
local day_tokens, day_since, guessed
if tonumber(state[4] or -1) == today then
  day_tokens, day_since, guessed = tonumber(state[5]), tonumber(state[6]), state[7]
end

local seeds = not day_tokens or (guessed == '1' and seed_known == '1')
if seeds and tonumber(seed_day or -1) == today then
  day_tokens = math.max(day_tokens or 0, tonumber(seed_tokens))
  day_since, guessed = now, seed_known == '1' and '0' or '1'
  redis.call('HSET', KEYS[1], 'day', today, 'day_tokens', string.format('%.0f', day_tokens),
    'day_since', string.format('%.0f', now), 'day_guessed', guessed)
  redis.call('PEXPIRE', KEYS[1], until_tomorrow_ms + 60000)
end
if day_limit > 0 and not day_tokens then return {-2, today} end

local room = math.floor((token_limit * UNITS - tokens) / UNITS)
if day_limit > 0 then room = math.min(room, day_limit - day_tokens) end
if choices > 0 then
  cap = math.max(cap_min, math.min(cap, math.floor((room - prompt) / choices)))
end
local needed = prompt + cap * choices

local verdict, wait_ms = 1, 0
local over = requests + UNITS - request_limit * UNITS
if over > 0 then verdict, wait_ms = 2, math.ceil(over / request_limit / 1000) end
over = tokens + needed * UNITS - token_limit * UNITS
if over > 0 and over / token_limit / 1000 > wait_ms then
  verdict, wait_ms = 3, math.ceil(over / token_limit / 1000)
end
if day_limit > 0 and day_tokens + needed > day_limit then
  verdict, wait_ms = 4, math.max(wait_ms, until_tomorrow_ms)
end

if verdict == 1 then
  requests = requests + UNITS
  tokens = tokens + needed * UNITS
  local fields = {'at', string.format('%.0f', now), 'requests', string.format('%.0f', requests),
    'tokens', string.format('%.0f', tokens)}
  -- Empty buckets need not be kept, but today's count does.
  local life_ms = math.ceil(math.max(requests / request_limit, tokens / token_limit) / 1000) + 1000
  if day_tokens then
    day_tokens = day_tokens + needed
    fields[7], fields[8] = 'day_tokens', string.format('%.0f', day_tokens)
    life_ms = math.max(life_ms, until_tomorrow_ms + 60000)
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  redis.call('PEXPIRE', KEYS[1], life_ms)
end
return {verdict, cap,
  math.max(0, math.floor((request_limit * UNITS - requests) / UNITS)),
  math.ceil(requests / request_limit / 1000),
  math.max(0, math.floor((token_limit * UNITS - tokens) / UNITS)),
  math.ceil(tokens / token_limit / 1000),
  math.max(0, day_limit - (day_tokens or 0)), until_tomorrow_ms, today, day_since or 0,
  now + math.ceil(tokens / token_limit), wait_ms, now + math.ceil(requests / request_limit),
  now, guessed == '1' and 1 or 0}

-- Adds sums to the usage history. A batch that is sent again is added once.
--
-- KEYS[1] number of the writer's last batch   KEYS[2..] a month of an account each, one a row
-- ARGV[1] number of this batch   [2] how long it is remembered, s, then for each row:
--   field (day of the month, colon, model), requests, prompt tokens, output tokens,
--   when the month is forgotten (s since 1970)
-- Returns 1, or 0 when this batch was added before.

local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])

local arg = 3
for i = 2, #KEYS do
  local before = redis.call('HGET', KEYS[i], ARGV[arg]) or '0 0 0'
  local requests, prompt, output = string.match(before, '^(%d+) (%d+) (%d+)$')
  redis.call('HSET', KEYS[i], ARGV[arg], string.format('%.0f %.0f %.0f',
    requests + ARGV[arg + 1], prompt + ARGV[arg + 2], output + ARGV[arg + 3]))
  if redis.call('TTL', KEYS[i]) == -1 then
    redis.call('EXPIREAT', KEYS[i], ARGV[arg + 4])
  end
  arg = arg + 5
end
return 1

-- Notes that accounts have made their first request. A second time changes nothing.
--
-- KEYS[1] audit stream  [2] latest people  [3..] one account each
-- ARGV[1] actor  [2] prefix of accounts  [3] how many of the latest are kept
-- [4..] time of each account's first request, ms
-- Returns how many were new.

local new = 0
for i = 3, #KEYS do
  local created_at_ms = redis.call('HGET', KEYS[i], 'created_at_ms')
  if created_at_ms and redis.call('HSETNX', KEYS[i], 'first_request_at_ms', ARGV[i + 1]) == 1 then
    new = new + 1
    local account_id = string.sub(KEYS[i], #ARGV[2] + 1)
    redis.call('ZADD', KEYS[2], ARGV[i + 1], account_id)
    redis.call('XADD', KEYS[1], '*', 'action', 'first_request', 'actor', ARGV[1],
      'at_ms', ARGV[i + 1], 'account_id', account_id)
  end
end
if new > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[3])
end
return new

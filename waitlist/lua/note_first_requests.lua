-- Notes that accounts have made their first request. A second time changes nothing.
--
-- KEYS[1] audit stream  [2..] one account each
-- ARGV[1] actor  [2] prefix of accounts  [3..] time of each account's first request, ms
-- Returns how many were new.

local new = 0
for i = 2, #KEYS do
  local created_at_ms = redis.call('HGET', KEYS[i], 'created_at_ms')
  if created_at_ms and redis.call('HSETNX', KEYS[i], 'first_request_at_ms', ARGV[i + 1]) == 1 then
    new = new + 1
    redis.call('XADD', KEYS[1], '*', 'action', 'first_request', 'actor', ARGV[1],
      'at_ms', ARGV[i + 1], 'account_id', string.sub(KEYS[i], #ARGV[2] + 1))
  end
end
return new

-- Sets the plan of an account, or how many invites it may hand on.
--
-- KEYS[1] account  [2] audit stream
-- ARGV[1] now, ms  [2] actor  [3] account id  [4] 'plan' or 'invites_left'  [5] value
-- Returns 1, or 0 when there is no such account.

if redis.call('HEXISTS', KEYS[1], 'plan') == 0 then
  return 0
end
if redis.call('HGET', KEYS[1], ARGV[4]) ~= ARGV[5] then
  redis.call('HSET', KEYS[1], ARGV[4], ARGV[5])
  redis.call('XADD', KEYS[2], '*', 'action', 'account_changed', 'actor', ARGV[2],
    'at_ms', ARGV[1], 'account_id', ARGV[3], 'field', ARGV[4], 'value', ARGV[5])
end
return 1

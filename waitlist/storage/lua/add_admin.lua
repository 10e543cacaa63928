-- Makes an operator's key.
--
-- KEYS[1] admin  [2] admins  [3] audit stream
-- ARGV[1] now, ms  [2] actor  [3] admin id  [4] digest  [5] hint  [6] name  [7] role
-- Returns 1.

local digest = redis.call('HGET', KEYS[1], 'digest')
if digest == ARGV[4] then
  return 1
elseif digest then
  return redis.error_reply('IDTAKEN an admin key of this id exists')
end
redis.call('HSET', KEYS[1], 'digest', ARGV[4], 'hint', ARGV[5], 'name', ARGV[6], 'role', ARGV[7],
  'created_at_ms', ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[3], '*', 'action', 'admin_added', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'admin_id', ARGV[3], 'name', ARGV[6], 'role', ARGV[7])
return 1

-- Revokes an operator's key for good.
--
-- KEYS[1] admin  [2] audit stream   ARGV[1] now, ms  [2] actor  [3] admin id
-- Returns 1, or 0 when there is no such key.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
if redis.call('HSETNX', KEYS[1], 'revoked_at_ms', ARGV[1]) == 1 then
  redis.call('XADD', KEYS[2], '*', 'action', 'admin_revoked', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'admin_id', ARGV[3])
end
return 1

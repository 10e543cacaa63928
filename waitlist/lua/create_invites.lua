-- Makes a batch of invites, all or none.
--
-- KEYS[1] audit stream   KEYS[2..] one invite each
-- ARGV[1] now, ms   [2] actor   [3] batch id   [4] plan   [5] note or ''   [6] expiry, ms or ''
-- ARGV[7..] digest of each code, in the order of KEYS
-- Returns how many were made: 0 when this very batch was made before (its answer got lost).

for i = 2, #KEYS do
  local batch_id = redis.call('HGET', KEYS[i], 'batch_id')
  if batch_id == ARGV[3] then
    return 0
  elseif batch_id then
    return redis.error_reply('IDTAKEN an invite of this id exists')
  end
end

for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], 'digest', ARGV[i + 5], 'plan', ARGV[4], 'note', ARGV[5],
    'batch_id', ARGV[3], 'created_at_ms', ARGV[1], 'expires_at_ms', ARGV[6])
end
redis.call('XADD', KEYS[1], '*', 'action', 'invites_created', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'batch_id', ARGV[3], 'count', #KEYS - 1, 'plan', ARGV[4], 'note', ARGV[5],
  'expires_at_ms', ARGV[6])
return #KEYS - 1

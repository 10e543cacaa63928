-- Makes a batch of invites, all or none.
--
-- KEYS[1] audit stream  [2] campaign (any key where there is none)  [3..] one invite each
-- ARGV[1] now, ms   [2] actor   [3] batch id   [4] plan   [5] note or ''   [6] expiry, ms or ''
-- ARGV[7] accounts that one code is good for  [8] campaign or ''
-- ARGV[9..] digest of each code, in the order of KEYS
-- Returns how many were made: 0 when this very batch was made before (its answer got lost), -1
-- when there is no such campaign.

for i = 3, #KEYS do
  local batch_id = redis.call('HGET', KEYS[i], 'batch_id')
  if batch_id == ARGV[3] then
    return 0
  elseif batch_id then
    return redis.error_reply('IDTAKEN an invite of this id exists')
  end
end
if ARGV[8] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then
  return -1
end

for i = 3, #KEYS do
  redis.call('HSET', KEYS[i], 'digest', ARGV[i + 6], 'plan', ARGV[4], 'note', ARGV[5],
    'batch_id', ARGV[3], 'created_at_ms', ARGV[1], 'expires_at_ms', ARGV[6])
  if ARGV[7] ~= '1' then
    redis.call('HSET', KEYS[i], 'uses_max', ARGV[7])
  end
  if ARGV[8] ~= '' then
    redis.call('HSET', KEYS[i], 'campaign', ARGV[8])
  end
end
if ARGV[8] ~= '' then
  redis.call('HINCRBY', KEYS[2], 'codes', #KEYS - 2)
end
redis.call('XADD', KEYS[1], '*', 'action', 'invites_created', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'batch_id', ARGV[3], 'count', #KEYS - 2, 'plan', ARGV[4], 'note', ARGV[5],
  'expires_at_ms', ARGV[6], 'campaign', ARGV[8])
return #KEYS - 2

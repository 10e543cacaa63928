-- Ends a batch that found nobody more to let in, or that is not wanted any longer.
--
-- KEYS[1] batch  [2] open batches  [3] audit stream
-- ARGV[1] now, ms  [2] actor  [3] batch id  [4] reason
-- Returns how many it let in, or nil when there is no such batch.

local batch = redis.call('HMGET', KEYS[1], 'state', 'released')
if not batch[1] then
  return false
end
if batch[1] == 'open' then
  redis.call('HSET', KEYS[1], 'state', 'done')
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('XADD', KEYS[3], '*', 'action', 'batch_closed', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'batch_id', ARGV[3], 'released', batch[2], 'reason', ARGV[4])
end
return batch[2]

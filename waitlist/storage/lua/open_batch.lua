-- Notes that so many people shall be let in. Nobody is let in yet.
--
-- KEYS[1] batch  [2] batches  [3] open batches  [4] audit stream
-- ARGV[1] now, ms  [2] actor  [3] batch id  [4] size  [5] plan  [6] life of an invite, ms
-- ARGV[7] '1' where codes are transferable, else ''  [8] reason
-- Returns 1, or 0 when this very batch was opened before.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'size', ARGV[4], 'released', 0, 'state', 'open', 'plan', ARGV[5],
  'invite_life_ms', ARGV[6], 'transferable', ARGV[7], 'reason', ARGV[8], 'created_at_ms', ARGV[1])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[4], '*', 'action', 'batch_opened', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'batch_id', ARGV[3], 'size', ARGV[4], 'plan', ARGV[5], 'reason', ARGV[8])
return 1

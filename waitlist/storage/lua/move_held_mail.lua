-- Sends a held mail again, or drops it because the operator delivered it.
--
-- KEYS[1] outbox  [2] held mails  [3] reasons  [4] audit stream  [5] mark of this attempt
-- ARGV[1] now, ms  [2] actor  [3] mail id  [4] 'mail_requeued' or 'mail_delivered'
-- ARGV[5] life of the mark, ms
-- Returns 1, or 0 when no such mail is held.

if redis.call('EXISTS', KEYS[5]) == 1 then
  return 1
end
if redis.call('ZREM', KEYS[2], ARGV[3]) == 0 then
  return 0
end
redis.call('SET', KEYS[5], '1', 'PX', ARGV[5])
redis.call('HDEL', KEYS[3], ARGV[3])
if ARGV[4] == 'mail_requeued' then
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('XADD', KEYS[4], '*', 'action', ARGV[4], 'actor', ARGV[2], 'at_ms', ARGV[1],
  'mail_id', ARGV[3])
return 1

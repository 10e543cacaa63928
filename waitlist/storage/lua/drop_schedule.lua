-- Ends a schedule.
--
-- KEYS[1] schedule  [2] schedules  [3] audit stream  [4] mark of this attempt
-- ARGV[1] now, ms  [2] actor  [3] schedule id  [4] life of the mark, ms
-- Returns 1, or 0 when there is no such schedule.

if redis.call('EXISTS', KEYS[4]) == 1 then
  return 1
end
redis.call('ZREM', KEYS[2], ARGV[3])
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[4], '1', 'PX', ARGV[4])
redis.call('XADD', KEYS[3], '*', 'action', 'schedule_dropped', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'schedule_id', ARGV[3])
return 1

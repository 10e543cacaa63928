-- Ends a schedule.
--
-- KEYS[1] schedule  [2] schedules  [3] audit stream   ARGV[1] now, ms  [2] actor  [3] schedule id
-- Returns 1, or 0 when there is no such schedule.

redis.call('ZREM', KEYS[2], ARGV[3])
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('XADD', KEYS[3], '*', 'action', 'schedule_dropped', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'schedule_id', ARGV[3])
return 1

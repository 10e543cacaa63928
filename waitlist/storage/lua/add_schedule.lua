-- Notes that people shall be let in at a time, once or again and again.
--
-- KEYS[1] schedule  [2] schedules  [3] audit stream
-- ARGV[1] now, ms  [2] actor  [3] schedule id  [4] first time, ms  [5] count  [6] every, ms (0: once)
-- ARGV[7] plan  [8] life of an invite, ms  [9] end, ms, or ''
-- Returns 1, or 0 when this very schedule was added before.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'count', ARGV[5], 'every_ms', ARGV[6], 'plan', ARGV[7],
  'invite_life_ms', ARGV[8], 'until_ms', ARGV[9], 'created_at_ms', ARGV[1], 'next_at_ms', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
redis.call('XADD', KEYS[3], '*', 'action', 'schedule_added', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'schedule_id', ARGV[3], 'first_at_ms', ARGV[4], 'count', ARGV[5], 'every_ms', ARGV[6])
return 1

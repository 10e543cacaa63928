-- Opens the batch of a schedule that is due, and sets its next time.
--
-- KEYS[1] schedules  [2] open batches  [3] batches  [4] audit stream
-- ARGV[1] now, ms  [2] actor  [3] prefix of schedules  [4] prefix of batches (all in one slot)
-- Returns the batch's id, or nil when nothing is due.
--
-- The batch is named after the schedule and its time. Times that nobody was there for are made up
-- for by one batch and not by many: who came back after a day does not let a day's people in.

local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
if #due == 0 then
  return false
end
local id, at, now = due[1], tonumber(due[2]), tonumber(ARGV[1])
local name = ARGV[3] .. id
local s = redis.call('HMGET', name, 'count', 'every_ms', 'plan', 'invite_life_ms', 'until_ms')
local every_ms = tonumber(s[2] or 0)

local batch_id = string.format('batch_%s_%.0f', id, at)
if s[1] and redis.call('EXISTS', ARGV[4] .. batch_id) == 0 then
  redis.call('HSET', ARGV[4] .. batch_id, 'size', s[1], 'released', 0, 'state', 'open',
    'plan', s[3], 'invite_life_ms', s[4], 'transferable', '', 'reason', 'schedule ' .. id,
    'created_at_ms', ARGV[1])
  redis.call('ZADD', KEYS[3], ARGV[1], batch_id)
  redis.call('ZADD', KEYS[2], ARGV[1], batch_id)
  redis.call('XADD', KEYS[4], '*', 'action', 'batch_opened', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'batch_id', batch_id, 'size', s[1], 'plan', s[3], 'reason', 'schedule ' .. id)
end

local next_at = at + every_ms * math.floor((now - at) / math.max(every_ms, 1) + 1)
if every_ms == 0 or s[5] ~= '' and next_at > tonumber(s[5]) then
  redis.call('ZREM', KEYS[1], id)
  redis.call('DEL', name)
else
  redis.call('ZADD', KEYS[1], next_at, id)
  redis.call('HSET', name, 'next_at_ms', string.format('%.0f', next_at))
end
return batch_id

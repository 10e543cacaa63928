-- Lets people in, as many as the batch still has room for: each gets an invite and a mail.
--
-- KEYS[1] batch  [2] line  [3] invited  [4] outbox  [5] statistics of the day
-- KEYS[6] released by hour  [7] audit stream  [8] open batches  [9] pauses
-- ARGV[1] now, ms  [2] actor  [3] batch id  [4] hour since 1970  [5] prefix of entries
-- ARGV[6] prefix of invites  [7] hours that are kept
-- ARGV[8..] of each person: entry id, invite id, digest of the code, digest of the address
-- Returns {state of the batch (open, done, paused), how many it has let in altogether}.
--
-- A person who is no longer waiting is passed over, so nothing is done twice.

local batch = redis.call('HMGET', KEYS[1], 'size', 'released', 'state', 'plan', 'invite_life_ms',
  'transferable')
local size, released, state = tonumber(batch[1] or 0), tonumber(batch[2] or 0), batch[3]
if state ~= 'open' then
  return {'done', released}
elseif redis.call('HEXISTS', KEYS[9], 'releasing') == 1 then
  return {'paused', released}
end

local expires_at_ms = tonumber(ARGV[1]) + tonumber(batch[5])
local count = 0
for i = 8, #ARGV, 4 do
  if released + count == size then
    break
  end
  local entry_id, invite_id = ARGV[i], ARGV[i + 1]
  if redis.call('HGET', ARGV[5] .. entry_id, 'state') == 'waiting' then
    redis.call('HSET', ARGV[5] .. entry_id, 'state', 'invited', 'batch', ARGV[3],
      'invite', invite_id)
    redis.call('HSET', ARGV[6] .. invite_id, 'digest', ARGV[i + 2], 'plan', batch[4], 'note', '',
      'batch_id', ARGV[3], 'created_at_ms', ARGV[1],
      'expires_at_ms', string.format('%.0f', expires_at_ms), 'entry', entry_id)
    if batch[6] == '1' then
      redis.call('HSET', ARGV[6] .. invite_id, 'transferable', '1')
    else
      redis.call('HSET', ARGV[6] .. invite_id, 'address', ARGV[i + 3])
    end
    redis.call('ZREM', KEYS[2], entry_id)
    redis.call('ZADD', KEYS[3], expires_at_ms, entry_id)
    redis.call('ZADD', KEYS[4], ARGV[1], 'invite:' .. entry_id)
    count = count + 1
  end
end

released = released + count
if count > 0 then
  redis.call('HSET', KEYS[1], 'released', released)
  redis.call('HINCRBY', KEYS[5], 'invited', count)
  redis.call('HINCRBY', KEYS[6], ARGV[4], count)
  if redis.call('HLEN', KEYS[6]) > tonumber(ARGV[7]) then
    for _, hour in ipairs(redis.call('HKEYS', KEYS[6])) do
      if tonumber(hour) <= tonumber(ARGV[4]) - tonumber(ARGV[7]) then
        redis.call('HDEL', KEYS[6], hour)
      end
    end
  end
  redis.call('XADD', KEYS[7], '*', 'action', 'people_invited', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'batch_id', ARGV[3], 'count', count)
end
if released == size then
  redis.call('HSET', KEYS[1], 'state', 'done')
  redis.call('ZREM', KEYS[8], ARGV[3])
  return {'done', released}
end
return {'open', released}

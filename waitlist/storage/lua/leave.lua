-- Takes an entry out of the line, and with `erase` all that is personal out of the entry.
--
-- KEYS[1] entry  [2] line  [3] pending  [4] invited  [5] statistics of the day  [6] audit stream
-- KEYS[7] address bucket  [8] outbox  [9] held mails
-- ARGV[1] now, ms  [2] actor  [3] entry id  [4] digest of the address  [5] its field in the bucket
-- ARGV[6] prefix of invites  [7] '1' to erase, else ''
-- Returns the entry's state afterwards, or 'gone' when there is none.

local entry = redis.call('HMGET', KEYS[1], 'state', 'invite', 'email')
local state, invite_id, email = entry[1], entry[2], entry[3]
if not state then
  return 'gone'
end

if state == 'pending' or state == 'waiting' or state == 'invited' then
  if state == 'invited' then
    redis.call('HSET', ARGV[6] .. invite_id, 'revoked_at_ms', ARGV[1])
  end
  state = 'left'
  redis.call('HSET', KEYS[1], 'state', state)
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZREM', KEYS[3], ARGV[3])
  redis.call('ZREM', KEYS[4], ARGV[3])
  redis.call('HINCRBY', KEYS[5], 'left', 1)
  redis.call('XADD', KEYS[6], '*', 'action', 'entry_left', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'entry_id', ARGV[3], 'email_digest', ARGV[4])
end
if ARGV[7] == '1' and email then
  redis.call('HDEL', KEYS[1], 'email', 'note', 'locale', 'consent', 'by')
  if redis.call('HGET', KEYS[7], ARGV[5]) == ARGV[3] then
    redis.call('HDEL', KEYS[7], ARGV[5])
  end
  for _, kind in ipairs({'confirm:', 'invite:'}) do
    redis.call('ZREM', KEYS[8], kind .. ARGV[3])
    redis.call('ZREM', KEYS[9], kind .. ARGV[3])
  end
  redis.call('HINCRBY', KEYS[5], 'erased', 1)
  redis.call('XADD', KEYS[6], '*', 'action', 'entry_erased', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'entry_id', ARGV[3], 'email_digest', ARGV[4])
end
return state

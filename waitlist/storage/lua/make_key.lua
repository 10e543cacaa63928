-- Makes a further key of an account; in a rotation it sets an end to the key that is replaced.
--
-- KEYS[1] account  [2] keys of the account  [3] key  [4] keys by number  [5] last key number
-- KEYS[6] audit stream  [7] key that is replaced (any key where none is)
-- ARGV[1] now, ms  [2] actor  [3] account id  [4] key id  [5] digest  [6] hint  [7] name or ''
-- ARGV[8] live keys an account may have  [9] prefix of keys  [10] key id that is replaced, or ''
-- ARGV[11] end of the replaced key, ms
-- Returns 'made' or the reason of the refusal.

if redis.call('HGET', KEYS[3], 'digest') == ARGV[5] then
  return 'made'
elseif redis.call('EXISTS', KEYS[3]) == 1 then
  return redis.error_reply('IDTAKEN a key of this id exists')
elseif redis.call('HEXISTS', KEYS[1], 'plan') == 0
  or redis.call('HEXISTS', KEYS[1], 'revoked_at_ms') == 1 then
  return 'account_unknown'
end

local now = tonumber(ARGV[1])
local live = 0
for _, key_id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local ends = redis.call('HMGET', ARGV[9] .. key_id, 'revoked_at_ms', 'expires_at_ms')
  if not ends[1] and (not ends[2] or tonumber(ends[2]) > now) then
    live = live + 1
  end
end
if live >= tonumber(ARGV[8]) then
  return 'too_many_keys'
end

if ARGV[10] ~= '' then
  local old = redis.call('HMGET', KEYS[7], 'account_id', 'revoked_at_ms', 'expires_at_ms')
  if old[1] ~= ARGV[3] or old[2] or old[3] then
    return 'key_unknown'
  end
  redis.call('HSET', KEYS[7], 'expires_at_ms', ARGV[11])
end
redis.call('HSET', KEYS[3], 'digest', ARGV[5], 'hint', ARGV[6], 'account_id', ARGV[3],
  'created_at_ms', ARGV[1])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[3], 'name', ARGV[7])
end
redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[5]), ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[1], ARGV[4])
redis.call('XADD', KEYS[6], '*', 'action', ARGV[10] == '' and 'key_made' or 'key_rotated',
  'actor', ARGV[2], 'at_ms', ARGV[1], 'account_id', ARGV[3], 'key_id', ARGV[4],
  'replaces', ARGV[10])
return 'made'

-- Adds one piece of a file to the line. The piece is taken when it begins where the file was left.
--
-- KEYS[1] import  [2] line  [3] last number of the line  [4] statistics of the day  [5] audit stream
-- ARGV[1] now, ms  [2] actor  [3] digest of the file  [4] rows before this piece  [5] rows in it
-- ARGV[6] prefix of entries  [7] prefix of address buckets (all in one slot)
-- ARGV[8] rows of it that are passed over  [9] rows of it that are rejected
-- ARGV[10..] of each other row: entry id, e-mail, joined at, ms, locale or '', note or '', bucket,
--   field
-- Returns {rows read, added, skipped because the address has a place, passed over, rejected} of the
-- whole file so far.

local done = redis.call('HMGET', KEYS[1], 'rows', 'added', 'skipped', 'passed_over', 'rejected')
for i = 1, 5 do
  done[i] = tonumber(done[i] or 0)
end
local rows, added, skipped, passed_over, rejected = unpack(done, 1, 5)
if rows ~= tonumber(ARGV[4]) then
  return {rows, added, skipped, passed_over, rejected}
end

local new = 0
for i = 10, #ARGV, 7 do
  local entry_id, bucket, field = ARGV[i], ARGV[7] .. ARGV[i + 5], ARGV[i + 6]
  local earlier = redis.call('HGET', bucket, field)
  local state = earlier and redis.call('HGET', ARGV[6] .. earlier, 'state')
  if state == 'waiting' or state == 'invited' or state == 'redeemed' then
    skipped = skipped + 1
  else
    redis.call('HSET', ARGV[6] .. entry_id, 'state', 'waiting', 'at', ARGV[i + 2],
      'email', ARGV[i + 1])
    if ARGV[i + 3] ~= '' then
      redis.call('HSET', ARGV[6] .. entry_id, 'locale', ARGV[i + 3])
    end
    if ARGV[i + 4] ~= '' then
      redis.call('HSET', ARGV[6] .. entry_id, 'note', ARGV[i + 4])
    end
    redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), entry_id)
    redis.call('HSET', bucket, field, entry_id)
    new = new + 1
  end
end
added = added + new
if new > 0 then
  redis.call('HINCRBY', KEYS[4], 'joined', new)
  redis.call('HINCRBY', KEYS[4], 'confirmed', new)
end
if rows == 0 then
  redis.call('XADD', KEYS[5], '*', 'action', 'import_began', 'actor', ARGV[2], 'at_ms', ARGV[1],
    'file_digest', ARGV[3])
end
rows = rows + tonumber(ARGV[5])
passed_over = passed_over + tonumber(ARGV[8])
rejected = rejected + tonumber(ARGV[9])
redis.call('HSET', KEYS[1], 'rows', rows, 'added', added, 'skipped', skipped,
  'passed_over', passed_over, 'rejected', rejected)
return {rows, added, skipped, passed_over, rejected}

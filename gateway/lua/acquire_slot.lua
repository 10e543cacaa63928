-- One slot on the replica that has the largest share of its slots free.
-- KEYS[1] slots used   KEYS[2] worker leases   KEYS[3] this worker's slots
-- ARGV[1] worker id, then pairs: replica id, its slots
-- Returns the replica id, '' when none has room, or -1 when this worker's lease has ended.
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not lease then return -1 end
local best, best_share = '', 0
for i = 2, #ARGV, 2 do
  local slots = tonumber(ARGV[i + 1])
  local used = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0)
  local share = (slots - used) / slots
  if used < slots and share > best_share then best, best_share = ARGV[i], share end
end
if best ~= '' then
  redis.call('HINCRBY', KEYS[1], best, 1)
  redis.call('HINCRBY', KEYS[3], best, 1)
end
return best

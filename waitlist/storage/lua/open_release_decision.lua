-- Writes a decision down. One that lets people in stays open until it was carried out; no other can
-- be made before.
--
-- KEYS[1] lease  [2] open decision  [3] decisions  [4] what was learned
-- ARGV[1] `<token>:<holder>`  [2] decision id  [3] decision, JSON  [4] how many it lets in
-- ARGV[5] what was learned so far, JSON
-- Returns {'noted'}, {'not_leader'} or {'open', the open decision}. Twice the same is noted once.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'not_leader'}
end
local open = redis.call('GET', KEYS[2])
if open and open ~= ARGV[3] then
  return {'open', open}
end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if open or last and last[2][4] == ARGV[2] then
  return {'noted'}
end
if tonumber(ARGV[4]) > 0 then
  redis.call('SET', KEYS[2], ARGV[3])
end
redis.call('SET', KEYS[4], ARGV[5])
redis.call('XADD', KEYS[3], '*', 'kind', 'decision', 'id', ARGV[2], 'decision', ARGV[3])
return {'noted'}

-- Notes that the open decision was carried out.
--
-- KEYS[1] open decision  [2] decisions
-- ARGV[1] decision, JSON  [2] decision id  [3] how many were let in  [4] now, ms
-- Returns 1, or 0 where it is not open any more: somebody else noted it.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('XADD', KEYS[2], '*', 'kind', 'outcome', 'id', ARGV[2], 'released', ARGV[3],
  'at_ms', ARGV[4])
return 1

-- Writes into the audit what an operator did that changes no record: a search, an export.
--
-- KEYS[1] audit stream  [2] mark of this attempt
-- ARGV[1] now, ms  [2] actor  [3] action  [4] about  [5] life of the mark, ms
-- Returns 1.

if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[5]) then
  redis.call('XADD', KEYS[1], '*', 'action', ARGV[3], 'actor', ARGV[2], 'at_ms', ARGV[1],
    'about', ARGV[4])
end
return 1

-- Ends a migration: the new version holds. A second time changes nothing.
--
-- KEYS[1] schema  [2] cursor of the migration   ARGV[1] version it comes from  [2] version it leads to

if redis.call('GET', KEYS[1]) == ARGV[1] .. '>' .. ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[2])
end
return 1

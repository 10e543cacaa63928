-- The ledger's schema version; an empty ledger gets ours.
--
-- KEYS[1] schema   ARGV[1] our version
-- Returns the text.

if redis.call('EXISTS', KEYS[1]) == 0 and redis.call('DBSIZE') == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('GET', KEYS[1]) or ''

-- One step of a walk over the names with a prefix.
--
-- KEYS[1] any key of the ledger, which says in which slot to look
-- ARGV[1] cursor ('0' at first)   [2] pattern   [3] names a step, about
-- Returns {next cursor ('0' at the end), names}.

return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])

-- Finds what belongs to an address. Changes nothing.
--
-- KEYS[1] address bucket  [2] account id of the address   ARGV[1] field in the bucket
-- Returns {entry id or nil, account id or nil}.

return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('GET', KEYS[2])}

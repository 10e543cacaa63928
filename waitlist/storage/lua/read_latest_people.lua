-- The latest accounts that made a first request, latest first. Changes nothing.
--
-- KEYS[1] latest people   ARGV[1] most
-- Returns account id, time of its first request (ms), …

return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'REV', 'WITHSCORES')

-- Reads one page of the accounts that came by an account's invites. Changes nothing.
--
-- KEYS[1] guests   ARGV[1] how many were read before  [2] accounts a page
-- Returns account ids in the order of their making.

return redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)

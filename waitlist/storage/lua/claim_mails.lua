-- Takes mails that are due, so that nobody else sends them until the lease ends.
--
-- KEYS[1] outbox  [2] tries   ARGV[1] now, ms  [2] end of the lease, ms  [3] most at once
-- Returns rows of {mail id, number of this try}.
--
-- Sent twice, it may take other mails as well; those wait for one lease.

local rows = {}
for _, mail_id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE',
  'LIMIT', 0, ARGV[3])) do
  redis.call('ZADD', KEYS[1], ARGV[2], mail_id)
  rows[#rows + 1] = {mail_id, redis.call('HINCRBY', KEYS[2], mail_id, 1)}
end
return rows

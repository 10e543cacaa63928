-- Reads mails of the outbox or held ones. Changes nothing.
--
-- KEYS[1] sorted set of mail ids  [2] tries  [3] reasons   ARGV[1] most
-- Returns rows of {mail id, time, ms, tries or nil, reason or nil}.

local page = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
local rows = {}
for i = 1, #page, 2 do
  rows[#rows + 1] = {page[i], page[i + 1], redis.call('HGET', KEYS[2], page[i]),
    redis.call('HGET', KEYS[3], page[i])}
end
return rows

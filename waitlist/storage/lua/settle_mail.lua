-- Notes what became of a mail: sent or dropped, to be tried again, or held for the operator.
--
-- KEYS[1] outbox  [2] tries  [3] held mails  [4] reasons
-- ARGV[1] mail id  [2] next try or time of holding, ms; '' when it is done with
-- ARGV[3] '1' to hold it, else ''  [4] reason
-- Returns 1, or 0 when the mail was no longer in the outbox (erased, or settled before).

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if ARGV[2] ~= '' and ARGV[3] == '' then
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
  return 1
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
if ARGV[3] == '1' then
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
end
return 1

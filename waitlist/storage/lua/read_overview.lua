-- Reads how the line stands. Changes nothing.
--
-- KEYS[1] line  [2] pending  [3] invited  [4] open batches  [5] outbox  [6] held mails  [7] pauses
-- KEYS[8] released by hour
-- Returns {in line, pending, invited, open batches, mails to send, held mails,
--   {what is paused, since, ms, …}, {hour, released, …}}.

return {redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]),
  redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]),
  redis.call('HGETALL', KEYS[7]), redis.call('HGETALL', KEYS[8])}

-- What a leader needs to know before it decides.
--
-- KEYS[1] control  [2] open decision  [3] hours  [4] what was learned
-- Returns {control as field, value, …; open decision or ''; hours as field, value, …; learned or ''}.

return {redis.call('HGETALL', KEYS[1]), redis.call('GET', KEYS[2]) or '',
  redis.call('HGETALL', KEYS[3]), redis.call('GET', KEYS[4]) or ''}

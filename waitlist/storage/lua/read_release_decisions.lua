-- The newest decisions and outcomes, newest first.
--
-- KEYS[1] decisions   ARGV[1] before this id ('+' at first)   [2] how many
-- Returns entries {id, {field, value, …}}.

local before = ARGV[1] == '+' and '+' or '(' .. ARGV[1]
return redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', ARGV[2])

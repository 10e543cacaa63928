-- Reads one page of the audit. Changes nothing.
--
-- KEYS[1] audit stream   ARGV[1] id after which to read, or '-'  [2] most
-- Returns rows of {id, {field, value, …}}.

local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
return redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])

-- Reads whole hashes. Changes nothing.
--
-- ARGV[1] prefix of the hashes  [2..] their ids (all in the slot of KEYS[1], any key of it)
-- Returns for each {field, value, field, value …}, empty where there is none.

local rows = {}
for i = 2, #ARGV do
  rows[i - 1] = redis.call('HGETALL', ARGV[1] .. ARGV[i])
end
return rows

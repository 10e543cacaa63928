-- Reads buckets of the index of addresses, with what they lead to. Changes nothing.
--
-- KEYS one bucket each   ARGV[1] prefix of buckets  [2] prefix of entries
-- Returns {bucket, field, entry id, the entry's e-mail or ''} in fours, flat: only what stands
-- outside Redis can compare an address with its digest.

local rows = {}
for _, name in ipairs(KEYS) do
  local fields = redis.call('HGETALL', name)
  for i = 1, #fields, 2 do
    rows[#rows + 1] = string.sub(name, #ARGV[1] + 1)
    rows[#rows + 1] = fields[i]
    rows[#rows + 1] = fields[i + 1]
    rows[#rows + 1] = redis.call('HGET', ARGV[2] .. fields[i + 1], 'email') or ''
  end
end
return rows

-- Reads the usage history of one account.
--
-- KEYS a month each   ARGV[1] start of the fields that are wanted, '' for all
-- Returns {number of the month among KEYS, field, text} for each field.

local rows = {}
for i, month in ipairs(KEYS) do
  local fields = redis.call('HGETALL', month)
  for j = 1, #fields, 2 do
    if string.sub(fields[j], 1, #ARGV[1]) == ARGV[1] then
      rows[#rows + 1] = {i, fields[j], fields[j + 1]}
    end
  end
end
return rows

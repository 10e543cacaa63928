-- One field of each record of a page. KEYS: the records. ARGV[1] field. Returns value or nil each.

local values = {}
for i, name in ipairs(KEYS) do
  values[i] = redis.call('HGET', name, ARGV[1])
end
return values

-- Notes a page of keys in the sets of their accounts. A second time changes nothing.
--
-- KEYS[1] keys by number  [2] cursor of the migration
-- ARGV[1] number of the last key that was noted  [2] keys a page  [3] prefix of keys
-- ARGV[4] prefix of accounts' keys
-- Returns {number of the last key of the page, or '' at the end, keys that were noted}.

local page = redis.call('ZRANGE', KEYS[1], '(' .. ARGV[1], '+inf', 'BYSCORE',
  'LIMIT', 0, ARGV[2], 'WITHSCORES')
for i = 1, #page, 2 do
  local key = redis.call('HMGET', ARGV[3] .. page[i], 'account_id', 'created_at_ms')
  if key[1] then
    redis.call('ZADD', ARGV[4] .. key[1], key[2] or 0, page[i])
  end
end
if #page == 0 then
  return {'', 0}
end
redis.call('SET', KEYS[2], page[#page])
return {page[#page], #page / 2}

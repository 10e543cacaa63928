--!include pool.lua
-- Where tickets stand, from one look at the line.
-- ARGV: tickets …
-- Returns {grants from the line so far, tickets waiting, place of each ticket from 0 on, or -1 for
--   one that does not wait (any more)}. Behind its own account's concurrency a ticket stands
--   behind the whole line.
local places = {tonumber(redis.call('HGET', state_key, 'granted') or 0),
  tonumber(redis.call('HGET', state_key, 'waiting') or 0)}
local length = redis.call('ZCARD', line_key)
for i, ticket in ipairs(ARGV) do
  local place = redis.call('ZRANK', line_key, ticket)
  if not place then
    local found = ticket_of(ticket)
    local account = found and found.account
    local own = account and redis.call('ZRANK', account_key(account, 'tickets'), ticket)
    place = own and length + own - in_line(account) or -1
  end
  places[i + 2] = place
end
return places

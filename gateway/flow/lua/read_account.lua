--!include pool.lua
-- An account's own requests in a pool.
-- ARGV: account
-- Returns {grants from the line so far, tickets waiting, requests running, ticket and place …}; one
--   that took a kept place is told as the ticket that had it, since its id says when that came
local account = ARGV[1]
local found = {tonumber(redis.call('HGET', state_key, 'granted') or 0),
  tonumber(redis.call('HGET', state_key, 'waiting') or 0),
  tonumber(redis.call('HGET', running_key, account) or 0)}
local length, inside = redis.call('ZCARD', line_key), in_line(account)
for i, ticket in ipairs(redis.call('ZRANGE', account_key(account, 'tickets'), 0, -1)) do
  local its = ticket_of(ticket)
  found[#found + 1] = its and its.came_as or ticket
  found[#found + 1] = redis.call('ZRANK', line_key, ticket) or length + (i - 1) - inside
end
return found

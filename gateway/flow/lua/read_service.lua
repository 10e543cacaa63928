--!include pool.lua
-- What each account has been granted, in weighted tokens, since it has had somebody in line.
-- Returns {account, the ticket that its stay began with, weighted tokens …}
local found = {}
local flat = redis.call('HGETALL', service_key)
for i = 1, #flat, 2 do
  local account = flat[i]
  local began = redis.call('HGET', stays_key, account)
  if began then
    found[#found + 1] = account
    found[#found + 1] = began
    found[#found + 1] = flat[i + 1]
  end
end
return found

--!include pool.lua
-- What each account has been granted, in weighted tokens, since it has had somebody in line.
-- Returns {account, weighted tokens …}
return redis.call('HGETALL', service_key)

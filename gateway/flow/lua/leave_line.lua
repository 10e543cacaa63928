--!include pool.lua
-- Tickets that wait no longer: hung up, timed out, or their worker stops.
-- ARGV: worker, keep_ms (0: the place is given up), tickets …
-- Returns tickets granted to this worker meanwhile, replica, account.
for i = 3, #ARGV do withdraw(ARGV[i], tonumber(ARGV[2])) end
return dispatch(ARGV[1])

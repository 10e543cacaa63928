--!include pool.lua
-- A worker that stops: its lease, its slots and its tickets go at once; places are kept.
-- ARGV: worker, keep_ms
-- Returns 1, or 0 when another call must go on.
local done = drop_worker(ARGV[1], tonumber(ARGV[2]))
dispatch('')
return done and 1 or 0

--!include pool.lua
-- A worker that stops: its lease, its slots and its tickets go at once; places are kept.
-- ARGV: worker, keep_ms
-- Returns 1, or 0 when another call must go on.
local done = drop_worker(ARGV[1], tonumber(ARGV[2]))
redis.call('DEL', worker_key(ARGV[1], 'grants'), worker_key(ARGV[1], 'at_once'))
dispatch('')
return done and 1 or 0

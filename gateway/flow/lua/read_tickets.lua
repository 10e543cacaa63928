--!include pool.lua
-- The tickets that Redis knows of a worker.
-- ARGV: worker
return redis.call('HKEYS', worker_key(ARGV[1], 'tickets'))

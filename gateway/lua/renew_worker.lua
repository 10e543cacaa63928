-- A worker's heartbeat: renews its lease, makes the slots that Redis holds for it equal to the
-- slots that it really holds, and gives back the slots of workers whose lease has ended.
-- Every count is rebuilt from the living workers' own, so that no error outlives a heartbeat.
-- KEYS[1] slots used   KEYS[2] worker leases   KEYS[3] this worker's slots
-- ARGV[1] worker id   ARGV[2] lease in ms   ARGV[3] prefix of the workers' slot hashes,
-- then pairs: replica id, slots that this worker holds
-- Returns the number of living workers.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  if dead ~= ARGV[1] then
    redis.call('DEL', ARGV[3] .. dead)
    redis.call('ZREM', KEYS[2], dead)
  end
end
redis.call('DEL', KEYS[3])
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[3], ARGV[2] * 10)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('DEL', KEYS[1])
local workers = redis.call('ZRANGE', KEYS[2], 0, -1)
for _, worker in ipairs(workers) do
  local held = redis.call('HGETALL', ARGV[3] .. worker)
  for i = 1, #held, 2 do
    redis.call('HINCRBY', KEYS[1], held[i], held[i + 1])
  end
end
return #workers

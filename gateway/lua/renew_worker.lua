--!include pool.lua
-- A worker's heartbeat: renews its lease, makes what Redis counts for it equal to what it really
-- holds, and takes back what workers held whose lease has ended. Sums are rebuilt from the living
-- workers' own counts, so that no error outlives a heartbeat.
-- ARGV: worker, lease_ms, keep_ms, number of replicas, replica and slots that this worker holds …,
--   number of accounts, account and requests that it runs …, number of replicas that are up,
--   replica and its slots …, tickets whose grant has arrived …
-- Returns {living workers, 1 when the lease had not ended, tickets that Redis knows of this worker,
--   grants from the line so far, tickets waiting, {replica, slots used …},
--   {tickets granted but not acknowledged, replica, account …}}
local worker, keep_ms = ARGV[1], tonumber(ARGV[3])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', leases_key, '-inf', now_ms)) do
  if dead ~= worker and not drop_worker(dead, keep_ms) then break end
end
local was_known = has_lease(worker) and 1 or 0
redis.call('ZADD', leases_key, now_ms + tonumber(ARGV[2]), worker)

local function pairs_from(at)
  local found, last = {}, at + 2 * tonumber(ARGV[at])
  for i = at + 1, last, 2 do found[ARGV[i]] = tonumber(ARGV[i + 1]) end
  return found, last + 1
end
local held, runs, up, at
held, at = pairs_from(4)
runs, at = pairs_from(at)
up, at = pairs_from(at)

local grants_key = worker_key(worker, 'grants')
if ARGV[at] then redis.call('HDEL', grants_key, unpack(ARGV, at)) end
-- Grants on their way are not among what the worker says that it holds.
local unseen, on_their_way = {}, redis.call('HGETALL', grants_key)
for i = 1, #on_their_way, 2 do
  local replica, account = string.match(on_their_way[i + 1], '^(%S+) (%S+)$')
  held[replica] = (held[replica] or 0) + 1
  runs[account] = (runs[account] or 0) + 1
  local n = #unseen
  unseen[n + 1], unseen[n + 2], unseen[n + 3] = on_their_way[i], replica, account
end

local worker_slots, worker_accounts = worker_key(worker, 'slots'), worker_key(worker, 'accounts')
redis.call('DEL', worker_slots)
for replica, count in pairs(held) do redis.call('HSET', worker_slots, replica, count) end
redis.call('DEL', slots_key)
local workers = redis.call('ZRANGEBYSCORE', leases_key, '(' .. now_ms, '+inf')
for _, living in ipairs(workers) do
  local flat = redis.call('HGETALL', worker_key(living, 'slots'))
  for i = 1, #flat, 2 do redis.call('HINCRBY', slots_key, flat[i], flat[i + 1]) end
end

redis.call('DEL', capacity_key)
for replica, slots in pairs(up) do redis.call('HSET', capacity_key, replica, slots) end

-- Accounts: the difference to what was counted, since there may be thousands.
local before = redis.call('HGETALL', worker_accounts)
for i = 1, #before, 2 do
  local account, count = before[i], tonumber(before[i + 1])
  runs[account] = (runs[account] or 0) - count
end
for account, difference in pairs(runs) do
  if difference ~= 0 then
    add(running_key, account, difference)
    add(worker_accounts, account, difference)
    if difference < 0 then promote(account) end
  end
end
redis.call('PEXPIRE', worker_slots, ARGV[2] * 10)
redis.call('PEXPIRE', worker_accounts, ARGV[2] * 10)

for _, granted in ipairs(dispatch(worker)) do unseen[#unseen + 1] = granted end
local slots_used = redis.call('HGETALL', slots_key)
return {#workers, was_known, redis.call('HLEN', worker_key(worker, 'tickets')),
  tonumber(redis.call('HGET', state_key, 'granted') or 0),
  tonumber(redis.call('HGET', state_key, 'waiting') or 0), slots_used, unseen}

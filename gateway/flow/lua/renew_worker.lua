--!include pool.lua
-- A worker's heartbeat: renews its lease, makes what Redis counts for it equal to what it really
-- holds, and takes back what workers held whose lease has ended. Sums are rebuilt from the living
-- workers' own counts, so that no error outlives a heartbeat.
-- KEYS[2]: what the line asks for, for whoever keeps the model's replicas (docs/architecture.md)
-- ARGV: worker, lease_ms, keep_ms, how long its oldest ticket has waited (ms), tokens that its
--   tickets have reserved, number of replicas, replica and slots that this worker holds …,
--   number of accounts, account and requests that it runs …, number of replicas that are up,
--   replica and its slots …, number of tickets whose call into the line may have run, those
--   tickets …, tickets whose grant has arrived …
-- Returns {living workers, 1 when the lease had not ended, tickets that Redis knows of this worker,
--   grants from the line so far, tickets waiting, {replica, slots used …},
--   {tickets granted but not acknowledged, replica, account …}}
local worker, keep_ms = ARGV[1], tonumber(ARGV[3])
-- Accounts whose requests are summed up anew in one heartbeat: 16 of 16 workers are 0.1 ms.
local ACCOUNTS_SUMMED = 16

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
held, at = pairs_from(6)
runs, at = pairs_from(at)
up, at = pairs_from(at)

-- What was granted at once has reached the worker by now, unless the call was lost: then it is told
-- here, as a grant from the line is.
local grants_key, at_once_key = worker_key(worker, 'grants'), worker_key(worker, 'at_once')
local doubted_end = at + tonumber(ARGV[at])
for i = at + 1, doubted_end do
  local granted = redis.call('HGET', at_once_key, ARGV[i])
  if granted then redis.call('HSET', grants_key, ARGV[i], granted) end
end
redis.call('DEL', at_once_key)
at = doubted_end + 1
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

redis.call('DEL', capacity_key, room_key)
used, capacity = {}, up  -- what drop_worker has read is old
for replica, slots in pairs(up) do
  redis.call('HSET', capacity_key, replica, slots)
  score_room(replica)
end

local function sum_running(account)
  local sum = 0
  for _, other in ipairs(redis.call('ZRANGE', leases_key, 0, -1)) do
    sum = sum + tonumber(redis.call('HGET', worker_key(other, 'accounts'), account) or 0)
  end
  local counted = tonumber(redis.call('HGET', running_key, account) or 0)
  if sum ~= counted then
    add(running_key, account, sum - counted)
    promote(account)
  end
end

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
-- Thousands are not summed up each time, but some are, so that no error stays.
for _, account in ipairs(redis.call('HRANDFIELD', running_key, ACCOUNTS_SUMMED)) do
  sum_running(account)
end

for _, granted in ipairs(dispatch(worker)) do unseen[#unseen + 1] = granted end

redis.call('HSET', demands_key, worker, ARGV[4] .. ' ' .. ARGV[5])
local oldest_ms, owed = 0, 0
for _, told in ipairs(redis.call('HVALS', demands_key)) do
  local waited_ms, tokens = string.match(told, '^(%d+) (%d+)$')
  oldest_ms, owed = math.max(oldest_ms, tonumber(waited_ms)), owed + tonumber(tokens)
end
local slots_used = redis.call('HGETALL', slots_key)
local used_everywhere = 0
for i = 2, #slots_used, 2 do used_everywhere = used_everywhere + tonumber(slots_used[i]) end
redis.call('SET', KEYS[2], string.format(
  '{"version":1,"waiting":%d,"oldest_wait_s":%.1f,"tokens_owed":%d,"slots_used":%d}',
  tonumber(redis.call('HGET', state_key, 'waiting') or 0), oldest_ms / 1000, owed,
  used_everywhere), 'PX', ARGV[2])

return {#workers, was_known, redis.call('HLEN', worker_key(worker, 'tickets')),
  tonumber(redis.call('HGET', state_key, 'granted') or 0),
  tonumber(redis.call('HGET', state_key, 'waiting') or 0), slots_used, unseen}

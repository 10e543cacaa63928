--!include pool.lua
-- A worker's heartbeat: renews its lease, makes what Redis counts for it equal to what it really
-- holds, and takes back what workers held whose lease has ended. Sums are rebuilt from the living
-- workers' own counts, so that no error outlives a heartbeat.
-- KEYS[2]: what the line asks for, for whoever keeps the model's replicas (docs/architecture.md)
-- ARGV: what the worker says, as JSON: {"worker", "lease_ms", "keep_ms", "slots": {replica: slots
--   that it holds}, "requests": {account: requests that it runs}, "capacity": {replica that is up:
--   its slots}, "doubted": [tickets whose call into the line may have run without an answer],
--   "acknowledged": [tickets whose grant has arrived]}
-- Returns {living workers, 1 when the lease had not ended, tickets that Redis knows of this worker,
--   grants from the line so far, tickets waiting, {replica, slots used …},
--   {tickets granted but not acknowledged, replica, account …}}
local said = cjson.decode(ARGV[1])
local worker = said.worker
-- Accounts whose requests are summed up anew in one heartbeat: 16 of 16 workers are 0.1 ms.
local ACCOUNTS_SUMMED = 16

local function drop_dead_workers()
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', leases_key, '-inf', now_ms)) do
    if dead ~= worker and not drop_worker(dead, said.keep_ms) then return end
  end
end

-- What was granted at once has reached the worker by now, unless the call was lost: then it is told
-- as a grant from the line is.
local function tell_of_lost_grants()
  local at_once_key = worker_key(worker, 'at_once')
  for _, ticket in ipairs(said.doubted) do
    local granted = redis.call('HGET', at_once_key, ticket)
    if granted then redis.call('HSET', worker_key(worker, 'grants'), ticket, granted) end
  end
  redis.call('DEL', at_once_key)
end

-- Grants on their way are not among what the worker says that it holds: they are added to it.
-- Returns them as a flat list of ticket, replica and account.
local function add_grants_on_their_way()
  local grants_key = worker_key(worker, 'grants')
  if said.acknowledged[1] then redis.call('HDEL', grants_key, unpack(said.acknowledged)) end
  local unseen, flat = {}, redis.call('HGETALL', grants_key)
  for i = 1, #flat, 2 do
    local replica, account = string.match(flat[i + 1], '^(%S+) (%S+)$')
    said.slots[replica] = (said.slots[replica] or 0) + 1
    said.requests[account] = (said.requests[account] or 0) + 1
    local n = #unseen
    unseen[n + 1], unseen[n + 2], unseen[n + 3] = flat[i], replica, account
  end
  return unseen
end

-- Returns the number of living workers.
local function rebuild_slots()
  local own_key = worker_key(worker, 'slots')
  redis.call('DEL', own_key)
  for replica, count in pairs(said.slots) do redis.call('HSET', own_key, replica, count) end
  redis.call('DEL', slots_key)
  local workers = redis.call('ZRANGEBYSCORE', leases_key, '(' .. now_ms, '+inf')
  for _, living in ipairs(workers) do
    local flat = redis.call('HGETALL', worker_key(living, 'slots'))
    for i = 1, #flat, 2 do redis.call('HINCRBY', slots_key, flat[i], flat[i + 1]) end
  end
  return #workers
end

local function rebuild_capacity()
  redis.call('DEL', capacity_key, room_key)
  used, capacity = {}, said.capacity  -- what drop_worker has read is old
  for replica, slots in pairs(said.capacity) do
    redis.call('HSET', capacity_key, replica, slots)
    score_room(replica)
  end
end

-- Only the difference to what was counted is written, since there may be thousands of accounts.
local function correct_requests()
  local own_key, differences = worker_key(worker, 'accounts'), said.requests
  local flat = redis.call('HGETALL', own_key)
  for i = 1, #flat, 2 do
    differences[flat[i]] = (differences[flat[i]] or 0) - tonumber(flat[i + 1])
  end
  for account, difference in pairs(differences) do
    if difference ~= 0 then
      add(running_key, account, difference)
      add(own_key, account, difference)
      if difference < 0 then promote(account) end
    end
  end
end

-- Thousands are not summed up each time, but some are, so that no error stays.
local function sum_up_requests()
  local workers = redis.call('ZRANGE', leases_key, 0, -1)
  for _, account in ipairs(redis.call('HRANDFIELD', running_key, ACCOUNTS_SUMMED)) do
    local sum = 0
    for _, other in ipairs(workers) do
      sum = sum + tonumber(redis.call('HGET', worker_key(other, 'accounts'), account) or 0)
    end
    local counted = tonumber(redis.call('HGET', running_key, account) or 0)
    if sum ~= counted then
      add(running_key, account, sum - counted)
      promote(account)
    end
  end
end

-- Asked for is what those want who wait for a slot. Whom only its own account's concurrency holds
-- back would have none earlier with more replicas, and is told apart.
local function write_demand(waiting, slots_used)
  local in_line = redis.call('ZCARD', line_key)
  if in_line == 0 then
    -- Workers of an earlier version move tickets and do not count these.
    redis.call('DEL', entered_key)
    redis.call('HDEL', state_key, 'owed')
  end
  local sum = 0
  for i = 2, #slots_used, 2 do sum = sum + tonumber(slots_used[i]) end
  redis.call('SET', KEYS[2], string.format('{"version":1,"waiting":%d,"oldest_wait_s":%.1f,'
    .. '"tokens_owed":%d,"slots_used":%d,"held_back":%d}', in_line, oldest_wait_ms() / 1000,
    math.max(0, tonumber(redis.call('HGET', state_key, 'owed') or 0)), sum,
    math.max(0, waiting - in_line)), 'PX', said.lease_ms)
end

drop_dead_workers()
local was_known = has_lease(worker) and 1 or 0
redis.call('ZADD', leases_key, now_ms + said.lease_ms, worker)
tell_of_lost_grants()
local unseen = add_grants_on_their_way()
local living = rebuild_slots()
rebuild_capacity()
correct_requests()
sum_up_requests()
for _, granted in ipairs(dispatch(worker)) do unseen[#unseen + 1] = granted end

local counts = redis.call('HMGET', state_key, 'granted', 'waiting')
local granted, waiting = tonumber(counts[1] or 0), tonumber(counts[2] or 0)
local slots_used = redis.call('HGETALL', slots_key)
write_demand(waiting, slots_used)
return {living, was_known, redis.call('HLEN', worker_key(worker, 'tickets')), granted, waiting,
  slots_used, unseen}

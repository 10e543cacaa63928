-- Workers.

-- Tickets that one heartbeat takes out for a dead worker: 25 ms of Redis's time.
local WITHDRAWN_MAX = 2000
-- How long a worker may have been cut off: longer than the line lets anybody wait (300 s).
local GRANTS_REMEMBERED_MS = 600000

-- Takes back all that a worker held. Its callers are gone; their places are kept for a while.
-- False when so many tickets were waiting that another call must go on.
local function drop_worker(worker, keep_ms)
  local flat = redis.call('HGETALL', worker_key(worker, 'slots'))
  for i = 1, #flat, 2 do count_slots(flat[i], -flat[i + 1]) end
  flat = redis.call('HGETALL', worker_key(worker, 'accounts'))
  for i = 1, #flat, 2 do
    add(running_key, flat[i], -flat[i + 1])
    promote(flat[i])
  end
  redis.call('DEL', worker_key(worker, 'slots'), worker_key(worker, 'accounts'))
  -- A worker that was only cut off comes back, and is told then what it was granted and charged.
  for _, kind in ipairs({'grants', 'at_once'}) do
    redis.call('PEXPIRE', worker_key(worker, kind), GRANTS_REMEMBERED_MS)
  end
  local tickets = redis.call('HKEYS', worker_key(worker, 'tickets'))
  for i = 1, math.min(#tickets, WITHDRAWN_MAX) do withdraw(tickets[i], keep_ms) end
  if #tickets > WITHDRAWN_MAX then return false end
  redis.call('ZREM', leases_key, worker)
  return true
end

-- What the scripts of a pool share: its keys, its replicas' slots, and the line in front of them.
-- KEYS[1] is the pool's prefix; gateway/flow/redis_keys.py lists what lies behind it.
--
-- The line is start-time fair queueing over accounts (Goyal et al., SIGCOMM 1996), which is the
-- virtual token counter of arXiv 2401.00588 with the counter's value written on each ticket: a
-- ticket starts where its account's counter stands, the counter moves on by the request's charge
-- (tokens / weight), and the least start is served first. The counter of an account that comes
-- back is lifted to the least start in line, so that idling saves nothing up.
local pool = KEYS[1]
local slots_key, capacity_key = pool .. ':slots', pool .. ':capacity'
local room_key = pool .. ':room'
local leases_key, state_key = pool .. ':leases', pool .. ':state'
local line_key, counters_key = pool .. ':line', pool .. ':counters'
local running_key, service_key = pool .. ':running', pool .. ':service'
local served_key, demands_key = pool .. ':served', pool .. ':demands'

-- An account with somebody in line is served at least once in so long, as far as every eighth
-- grant reaches: with a bound on all grants a deep line would turn into a plain round robin.
local STARVED_MS, STARVED_EVERY = 60000, 8
-- Heads of the line that may be passed over because they avoid the only replica with room.
local PASSED_OVER_MAX = 8

-- How long a conversation's replica is remembered: about as long as a cached prefix lives in a busy
-- engine, and what bounds the number of such keys.
local PREFIX_REMEMBERED_S = 600
-- How much fuller than the emptiest a replica may be, as a share of its slots, for a conversation to
-- return to it: requests that begin alike and come at once would fill one replica. On two cores a
-- cached prompt of 500 tokens saves as much as four more in a batch of 32 cost over 90 tokens.
local PREFIX_FULLER_SHARE = 1 / 8

local function worker_key(worker, kind) return pool .. ':worker:' .. worker .. ':' .. kind end
local function account_key(account, kind) return pool .. ':account:' .. account .. ':' .. kind end
local function prefix_key(prefix) return pool .. ':prefix:' .. prefix end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function has_lease(worker)
  return redis.call('ZSCORE', leases_key, worker)
end

-- Slots ----------------------------------------------------------------------------------------

-- What a grant costs must not grow with the replicas, so their shares in use are kept in order, and
-- only what a script chooses among is read.
local used, capacity = {}, {}  -- by replica, each read once a script
local scored = {}  -- replicas whose score this script has written

local function used_of(replica)
  used[replica] = used[replica] or tonumber(redis.call('HGET', slots_key, replica) or 0)
  return used[replica]
end

-- 0 for one that has gone.
local function capacity_of(replica)
  capacity[replica] = capacity[replica] or tonumber(redis.call('HGET', capacity_key, replica) or 0)
  return capacity[replica]
end

local function score_room(replica)
  scored[replica] = true
  local slots = capacity_of(replica)
  if slots > 0 then
    redis.call('ZADD', room_key, used_of(replica) / slots, replica)
  else
    redis.call('ZREM', room_key, replica)
  end
end

-- The replica with the least share of its slots in use, and that share; nil where none has one free.
-- A worker of an earlier version counts slots and scores nothing: what differs is set right here.
local function emptiest(avoid)
  while true do
    local heads = redis.call('ZRANGE', room_key, 0, avoid == '-' and 0 or 1, 'WITHSCORES')
    local at = heads[1] == avoid and 3 or 1
    local replica, share = heads[at], tonumber(heads[at + 1])
    if not replica or share >= 1 then return end
    if scored[replica] or used_of(replica) / capacity_of(replica) == share then
      return replica, share
    end
    score_room(replica)
  end
end

-- The replica that served the conversation last, if it has a slot free and is hardly fuller than
-- others; else the one with the largest share of its slots free, or nil.
local function replica_with_room(avoid, prefix)
  local best, best_share = emptiest(avoid)
  local last = best and prefix and redis.call('GET', prefix_key(prefix))
  if not last or last == best or last == avoid then return best end
  local slots, in_use = capacity_of(last), used_of(last)
  if in_use >= slots then return best end
  -- One request more is always within bounds.
  local is_hardly_fuller = in_use / slots - best_share <= math.max(PREFIX_FULLER_SHARE, 1 / slots)
  return is_hardly_fuller and last or best
end

local function add(key, field, count)
  local sum = redis.call('HINCRBY', key, field, count)
  if sum <= 0 then redis.call('HDEL', key, field) end
  return math.max(0, sum)
end

-- Slots of a replica over all workers; `count` below 0 gives them back.
local function count_slots(replica, count)
  used[replica] = add(slots_key, replica, count)
  score_room(replica)
end

local function take_slot(worker, account, replica, prefix)
  count_slots(replica, 1)
  redis.call('HINCRBY', worker_key(worker, 'slots'), replica, 1)
  redis.call('HINCRBY', running_key, account, 1)
  redis.call('HINCRBY', worker_key(worker, 'accounts'), account, 1)
  if prefix then redis.call('SET', prefix_key(prefix), replica, 'EX', PREFIX_REMEMBERED_S) end
end

-- The line -------------------------------------------------------------------------------------

local function virtual_time() return tonumber(redis.call('HGET', state_key, 'virtual') or 0) end

local function least_start()
  local head = redis.call('ZRANGE', line_key, 0, 0, 'WITHSCORES')
  return head[2] and tonumber(head[2]) or virtual_time()
end

local function in_line(account)
  return redis.call('ZCOUNT', account_key(account, 'tickets'), 0, 0)
end

-- Where a new ticket of the account starts.
local function next_start(account)
  local counter = tonumber(redis.call('ZSCORE', counters_key, account) or 0)
  if in_line(account) > 0 then return counter end
  return math.max(counter, least_start())
end

local function charge_from(account, start, charge)
  redis.call('ZADD', counters_key, start + charge, account)
end

-- Moves the account's counter, and its tickets that start at `from` or later with it.
local function shift(account, delta, from)
  if not redis.call('ZSCORE', counters_key, account) then return end
  redis.call('ZINCRBY', counters_key, delta, account)
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', account_key(account, 'tickets'), 0, 0)) do
    local start = tonumber(redis.call('ZSCORE', line_key, ticket))
    if not from or start >= from then redis.call('ZINCRBY', line_key, delta, ticket) end
  end
end

-- What a worker keeps of its ticket: account, charge, concurrent requests, replica to avoid, digest
-- of its conversation or nil. The last two are one word, so that scripts of a version that knows no
-- digest read the ticket too, while gateways are replaced one by one.
local function unpack_ticket(packed)
  local account, charge, concurrent, word = string.match(packed, '^(%S+) (%S+) (%S+) (%S+)$')
  local avoid, prefix = string.match(word, '^(.+)|(%x+)$')
  return account, tonumber(charge), tonumber(concurrent), avoid or word, prefix
end

local function worker_of(ticket) return string.match(ticket, '^%d+%-(%x+)%-') end

local function ticket_of(ticket)
  local packed = redis.call('HGET', worker_key(worker_of(ticket), 'tickets'), ticket)
  if packed then return unpack_ticket(packed) end
end

local function enter_line(ticket, account, charge, start)
  redis.call('ZADD', account_key(account, 'tickets'), 0, ticket)
  redis.call('ZADD', line_key, start, ticket)
  redis.call('ZADD', served_key, 'NX', now_ms, account)
  charge_from(account, math.max(start, tonumber(redis.call('ZSCORE', counters_key, account) or 0)),
    charge)
end

-- Keeps a place for a caller who was told to come back; a later, shorter promise ends no earlier one.
local function keep_place(account, start, ticket, keep_ms)
  local kept_key = account_key(account, 'kept')
  redis.call('ZADD', kept_key, start, ticket)
  if redis.call('PTTL', kept_key) < keep_ms then redis.call('PEXPIRE', kept_key, keep_ms) end
end

-- Lets tickets that wait behind their own account's concurrency into the line: at a place that was
-- kept for the account, where there is one, before those who start with it since they came later.
local function promote(account)
  local tickets_key = account_key(account, 'tickets')
  while true do
    local ticket = redis.call('ZRANGEBYSCORE', tickets_key, 1, 1, 'LIMIT', 0, 1)[1]
    if not ticket then return end
    local _, charge, concurrent = ticket_of(ticket)
    local running = tonumber(redis.call('HGET', running_key, account) or 0)
    if running + in_line(account) >= concurrent then return end
    local kept = redis.call('ZPOPMIN', account_key(account, 'kept'))[2]
    enter_line(ticket, account, charge, kept and tonumber(kept) - 0.001 or next_start(account))
  end
end

local function forget_ticket(ticket, account)
  redis.call('ZREM', line_key, ticket)
  redis.call('ZREM', account_key(account, 'tickets'), ticket)
  redis.call('HDEL', worker_key(worker_of(ticket), 'tickets'), ticket)
  redis.call('HINCRBY', state_key, 'waiting', -1)
  if in_line(account) == 0 then
    redis.call('ZREM', served_key, account)
    redis.call('HDEL', service_key, account)
  end
end

-- Takes a waiting ticket out; its place is kept for `keep_ms` where that is above 0.
local function withdraw(ticket, keep_ms)
  local account, charge = ticket_of(ticket)
  if not account then return end
  local start = tonumber(redis.call('ZSCORE', line_key, ticket))
  forget_ticket(ticket, account)
  if start then shift(account, -charge, start) end
  promote(account)
  if keep_ms > 0 then keep_place(account, start or next_start(account), ticket, keep_ms) end
end

-- The next ticket to serve, its start and a replica for it; nil when nobody can be served.
local function next_in_line(granted)
  if granted % STARVED_EVERY == 0 then
    local oldest = redis.call('ZRANGE', served_key, 0, 0, 'WITHSCORES')
    if oldest[1] and now_ms - tonumber(oldest[2]) > STARVED_MS then
      local ticket = redis.call('ZRANGEBYSCORE', account_key(oldest[1], 'tickets'), 0, 0,
        'LIMIT', 0, 1)[1]
      local _, _, _, avoid, prefix = ticket_of(ticket)
      local replica = replica_with_room(avoid, prefix)
      if replica then
        return ticket, tonumber(redis.call('ZSCORE', line_key, ticket)), replica
      end
    end
  end
  local heads = redis.call('ZRANGE', line_key, 0, PASSED_OVER_MAX - 1, 'WITHSCORES')
  for i = 1, #heads, 2 do
    local _, _, _, avoid, prefix = ticket_of(heads[i])
    local replica = replica_with_room(avoid, prefix)
    if replica then return heads[i], tonumber(heads[i + 1]), replica end
    if avoid == '-' then return end
  end
end

-- Grants slots while there are both. A grant stays with its worker's until acknowledged; those of
-- `caller` are returned as a flat list of ticket, replica and account, the others are pushed.
local function dispatch(caller)
  local own, pushed = {}, {}
  if redis.call('ZCARD', line_key) == 0 then return own end
  if not replica_with_room('-') then return own end
  local granted = tonumber(redis.call('HGET', state_key, 'granted') or 0)
  while true do
    local ticket, start, replica = next_in_line(granted)
    if not ticket then break end
    granted = granted + 1
    local worker = worker_of(ticket)
    local account, charge, _, _, prefix = ticket_of(ticket)
    redis.call('HINCRBYFLOAT', service_key, account, charge)
    forget_ticket(ticket, account)
    if in_line(account) > 0 then redis.call('ZADD', served_key, now_ms, account) end
    take_slot(worker, account, replica, prefix)
    if start > virtual_time() then redis.call('HSET', state_key, 'virtual', start) end
    redis.call('HSET', worker_key(worker, 'grants'), ticket, replica .. ' ' .. account)
    local list = own
    if worker ~= caller then
      pushed[worker] = pushed[worker] or {}
      list = pushed[worker]
    end
    local n = #list
    list[n + 1], list[n + 2], list[n + 3] = ticket, replica, account
  end
  redis.call('HSET', state_key, 'granted', granted)
  -- Counters that virtual time has passed would be lifted to it: they say nothing any more.
  redis.call('ZREMRANGEBYSCORE', counters_key, '-inf', '(' .. string.format('%.17g',
    math.min(virtual_time(), least_start())))
  for worker, list in pairs(pushed) do
    redis.call('PUBLISH', 'fg:grants:' .. worker, pool .. '\n' .. table.concat(list, ' '))
  end
  return own
end

-- Workers --------------------------------------------------------------------------------------

-- Tickets that one heartbeat takes out for a dead worker: 20 ms of Redis's time.
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
  redis.call('HDEL', demands_key, worker)
  local tickets = redis.call('HKEYS', worker_key(worker, 'tickets'))
  for i = 1, math.min(#tickets, WITHDRAWN_MAX) do withdraw(tickets[i], keep_ms) end
  if #tickets > WITHDRAWN_MAX then return false end
  redis.call('ZREM', leases_key, worker)
  return true
end

-- The line. It is start-time fair queueing over accounts (Goyal et al., SIGCOMM 1996), which is the
-- virtual token counter of arXiv 2401.00588 with the counter's value written on each ticket: a
-- ticket starts where its account's counter stands, the counter moves on by the request's charge
-- (tokens / weight), and the least start is served first. The counter of an account that comes
-- back is lifted to the least start in line, so that idling saves nothing up.

-- An account with somebody in line is served at least once in so long, as far as every eighth
-- grant reaches: with a bound on all grants a deep line would turn into a plain round robin.
local STARVED_MS, STARVED_EVERY = 60000, 8
-- Heads of the line that may be passed over because they avoid the only replica with room.
local PASSED_OVER_MAX = 8

local function virtual_time() return tonumber(redis.call('HGET', state_key, 'virtual') or 0) end

local function least_start()
  local head = redis.call('ZRANGE', line_key, 0, 0, 'WITHSCORES')
  return head[2] and tonumber(head[2]) or virtual_time()
end

-- How long whoever has waited longest for a slot has done so.
local function oldest_wait_ms()
  while true do
    local head = redis.call('ZRANGE', entered_key, 0, 0, 'WITHSCORES')
    if not head[1] then return 0 end
    if redis.call('ZSCORE', line_key, head[1]) then return now_ms - tonumber(head[2]) end
    -- Taken out by a script of an earlier version, which does not know the key.
    redis.call('ZREM', entered_key, head[1])
  end
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

-- The same for one that only a place is kept for: it moves with the account's counter from now on.
local function stand(account)
  local start = next_start(account)
  redis.call('ZADD', counters_key, 'GT', start, account)
  return start
end

local function charge_from(account, start, charge)
  redis.call('ZADD', counters_key, start + charge, account)
end

-- Moves the account's tickets that start at `from` or later.
local function shift_tickets(account, delta, from)
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', account_key(account, 'tickets'), 0, 0)) do
    local start = tonumber(redis.call('ZSCORE', line_key, ticket))
    if not from or start >= from then redis.call('ZINCRBY', line_key, delta, ticket) end
  end
end

-- Moves the account's counter, and its tickets that start at `from` or later with it.
local function shift(account, delta, from)
  if not redis.call('ZSCORE', counters_key, account) then return end
  redis.call('ZINCRBY', counters_key, delta, account)
  shift_tickets(account, delta, from)
end

-- `since_ms` is when its account began to wait, if nobody of it does yet.
local function enter_line(ticket, account, charge, tokens, start, since_ms)
  redis.call('ZADD', account_key(account, 'tickets'), 0, ticket)
  redis.call('ZADD', line_key, start, ticket)
  redis.call('ZADD', entered_key, now_ms, ticket)
  redis.call('HINCRBY', state_key, 'owed', tokens)
  redis.call('ZADD', served_key, 'NX', since_ms, account)
  redis.call('HSETNX', stays_key, account, ticket)
  charge_from(account, math.max(start, tonumber(redis.call('ZSCORE', counters_key, account) or 0)),
    charge)
end

-- Puts a ticket behind its account's concurrency, in order of arrival: of equal scores the ids decide,
-- which begin with the time. Who took a place stands before the others, as do those who came before
-- it, with scores below the 1 that all others have; milliseconds have 13 digits.
local function hold_back(ticket, account, place)
  local tickets_key = account_key(account, 'tickets')
  if not place then return redis.call('ZADD', tickets_key, 1, ticket) end
  while true do
    local first = redis.call('ZRANGEBYSCORE', tickets_key, 1, 1, 'LIMIT', 0, 1)[1]
    if not first or first > place.ticket then break end
    redis.call('ZADD', tickets_key, arrived_ms(first) / 1e13, first)
  end
  redis.call('ZADD', tickets_key, arrived_ms(place.ticket) / 1e13, ticket)
end

-- Where one that took a place starts: before those of its account who came later; if there are none,
-- where the account stands, which is lifted to nobody; if virtual time has passed that, as the place
-- says. Those who come later are moved behind it, and those of others who start with it since they
-- came later stand behind it too.
local function start_at_place(found)
  local account, before = found.account, nil
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', account_key(account, 'tickets'), 0, 0)) do
    local its = other > found.came_as and ticket_of(other)
    -- What costs nothing goes first, since its slot's replica gave no answer.
    if its and its.charge > 0 and its.came_as > found.came_as then
      local start = tonumber(redis.call('ZSCORE', line_key, other))
      before = math.min(before or start, start)
    end
  end
  if before then shift_tickets(account, found.charge, before) end
  local counter = redis.call('ZSCORE', counters_key, account)
  local start = before or tonumber(counter) or math.min(found.kept_start, least_start())
  return start - 0.001
end

-- Lets tickets that wait behind their own account's concurrency into the line.
local function promote(account)
  local tickets_key = account_key(account, 'tickets')
  while true do
    local ticket = redis.call('ZRANGEBYSCORE', tickets_key, '(0', 1, 'LIMIT', 0, 1)[1]
    if not ticket then return end
    local found = ticket_of(ticket)
    local running = tonumber(redis.call('HGET', running_key, account) or 0)
    if running + in_line(account) >= found.concurrent then return end
    local start, since_ms = nil, now_ms
    if found.kept_start then
      start = start_at_place(found)
      -- An account that runs something was served meanwhile.
      if running == 0 then since_ms = arrived_ms(found.came_as) end
    else
      start = next_start(account)
    end
    enter_line(ticket, account, found.charge, found.tokens, start, since_ms)
  end
end

local function forget_ticket(ticket, account, tokens)
  if redis.call('ZREM', line_key, ticket) == 1 then
    redis.call('ZREM', entered_key, ticket)
    redis.call('HINCRBY', state_key, 'owed', 0 - tokens)  -- Redis does not take the -0 of -tokens
  end
  redis.call('ZREM', account_key(account, 'tickets'), ticket)
  redis.call('HDEL', worker_key(worker_of(ticket), 'tickets'), ticket)
  redis.call('HINCRBY', state_key, 'waiting', -1)
  if in_line(account) == 0 then
    redis.call('ZREM', served_key, account)
    redis.call('HDEL', service_key, account)
    redis.call('HDEL', stays_key, account)
  end
end

-- Takes a waiting ticket out; its place is kept for `keep_ms` where that is above 0.
local function withdraw(ticket, keep_ms)
  local found = ticket_of(ticket)
  if not found then return end
  local account, charge = found.account, found.charge
  local start = tonumber(redis.call('ZSCORE', line_key, ticket))
  forget_ticket(ticket, account, found.tokens)
  if start then shift(account, -charge, start) end
  if found.kept_start then lower_floor(account, charge) end
  promote(account)
  if keep_ms > 0 then
    keep_place(account, found.came_as, start or found.kept_start or stand(account), keep_ms,
      found.waiting_max)
  end
end

-- Of an account's tickets in line the one that stands first.
local function first_in_line(account)
  local first, least
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', account_key(account, 'tickets'), 0, 0)) do
    local start = tonumber(redis.call('ZSCORE', line_key, ticket))
    if not least or start < least then first, least = ticket, start end
  end
  return first, least
end

-- The next ticket to serve, its start and a replica for it; nil when nobody can be served.
local function next_in_line(granted)
  if granted % STARVED_EVERY == 0 then
    local oldest = redis.call('ZRANGE', served_key, 0, 0, 'WITHSCORES')
    if oldest[1] and now_ms - tonumber(oldest[2]) > STARVED_MS then
      local ticket, start = first_in_line(oldest[1])
      local found = ticket_of(ticket)
      local replica = replica_with_room(found.avoid, found.prefix)
      if replica then return ticket, start, replica end
    end
  end
  local heads = redis.call('ZRANGE', line_key, 0, PASSED_OVER_MAX - 1, 'WITHSCORES')
  for i = 1, #heads, 2 do
    local found = ticket_of(heads[i])
    local replica = replica_with_room(found.avoid, found.prefix)
    if replica then return heads[i], tonumber(heads[i + 1]), replica end
    if found.avoid == '-' then return end
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
    local found = ticket_of(ticket)
    local account = found.account
    redis.call('HINCRBYFLOAT', service_key, account, found.charge)
    forget_ticket(ticket, account, found.tokens)
    if in_line(account) > 0 then redis.call('ZADD', served_key, now_ms, account) end
    take_slot(worker, account, replica, found.prefix)
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

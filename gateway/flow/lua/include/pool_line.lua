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
-- of its conversation or nil, tokens that it has reserved. The last three are one word, so that
-- scripts of versions that know no digest or no tokens read the ticket too, while gateways are
-- replaced one by one.
local function pack_ticket(account, charge, concurrent, avoid, prefix, tokens)
  return table.concat({account, charge, concurrent,
    avoid .. '|' .. tokens .. '|' .. (prefix or '')}, ' ')
end

local function unpack_ticket(packed)
  local account, charge, concurrent, word = string.match(packed, '^(%S+) (%S+) (%S+) (%S+)$')
  local avoid, tokens, prefix = string.match(word, '^(.+)|(%d+)|(%x*)$')
  if not avoid then
    avoid, prefix = string.match(word, '^(.+)|(%x+)$')
  end
  if prefix == '' then prefix = nil end
  return account, tonumber(charge), tonumber(concurrent), avoid or word, prefix,
    tonumber(tokens or 0)
end

local function worker_of(ticket) return string.match(ticket, '^%d+%-(%x+)%-') end

local function ticket_of(ticket)
  local packed = redis.call('HGET', worker_key(worker_of(ticket), 'tickets'), ticket)
  if packed then return unpack_ticket(packed) end
end

local function enter_line(ticket, account, charge, tokens, start)
  redis.call('ZADD', account_key(account, 'tickets'), 0, ticket)
  redis.call('ZADD', line_key, start, ticket)
  redis.call('ZADD', entered_key, now_ms, ticket)
  redis.call('HINCRBY', state_key, 'owed', tokens)
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
    local _, charge, concurrent, _, _, tokens = ticket_of(ticket)
    local running = tonumber(redis.call('HGET', running_key, account) or 0)
    if running + in_line(account) >= concurrent then return end
    local kept = redis.call('ZPOPMIN', account_key(account, 'kept'))[2]
    local start = kept and tonumber(kept) - 0.001 or next_start(account)
    enter_line(ticket, account, charge, tokens, start)
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
  end
end

-- Takes a waiting ticket out; its place is kept for `keep_ms` where that is above 0.
local function withdraw(ticket, keep_ms)
  local account, charge, _, _, _, tokens = ticket_of(ticket)
  if not account then return end
  local start = tonumber(redis.call('ZSCORE', line_key, ticket))
  forget_ticket(ticket, account, tokens)
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
    local account, charge, _, _, prefix, tokens = ticket_of(ticket)
    redis.call('HINCRBYFLOAT', service_key, account, charge)
    forget_ticket(ticket, account, tokens)
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

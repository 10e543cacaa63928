--!include pool.lua
-- A slot at once, a place in line, or a refusal.
-- ARGV: worker, ticket, account, charge, concurrent requests, waiting requests, longest line,
--   replica to avoid or '-', keep_ms, mode: 'new', 'again' (in line when the worker's tickets were
--   lost) or 'retry' (its slot's replica gave no answer: it goes first and pays nothing),
--   digest of its conversation or '', tokens that it has reserved
-- Returns {what, replica, tickets granted to this worker, replica, account …}; what is
--   1 granted · 0 waiting · -1 this worker's lease has ended · -2 the account may have no more
--   waiting: then how many stand before its first ticket follows instead of what was granted ·
--   -3 the line is full: 1 follows where its place is kept for keep_ms, else 0
local worker, ticket, account, charge = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local concurrent, avoid, mode = tonumber(ARGV[5]), ARGV[8], ARGV[10]
-- A worker of an earlier version sends no digest, or no tokens.
local prefix, tokens = ARGV[11] ~= '' and ARGV[11] or nil, ARGV[12] or 0
if not has_lease(worker) then return {-1, ''} end

local tickets_key = account_key(account, 'tickets')
local line_is_empty = redis.call('ZCARD', line_key) == 0
-- Most have neither tickets nor places: one look at both.
local found = redis.call('EXISTS', tickets_key, account_key(account, 'kept'))
local waiting_here = found > 0 and redis.call('ZCARD', tickets_key) or 0
local has_places = found > (waiting_here > 0 and 1 or 0)
local may_take_place = has_places and mode ~= 'retry'
local waiting_max = tonumber(ARGV[6])
local may_run = waiting_here == 0
  and tonumber(redis.call('HGET', running_key, account) or 0) < concurrent

if line_is_empty and may_run then
  local replica = replica_with_room(avoid, prefix)
  if replica then
    -- With nobody in line: next_start without its looks into the line.
    local virtual = virtual_time()
    local start = math.max(tonumber(redis.call('ZSCORE', counters_key, account) or 0), virtual)
    if may_take_place then take_place(account, charge) end
    charge_from(account, start, charge)
    if start > virtual then redis.call('HSET', state_key, 'virtual', start) end
    take_slot(worker, account, replica, prefix)
    -- For the next heartbeat, should this answer be lost.
    redis.call('HSET', worker_key(worker, 'at_once'), ticket, replica .. ' ' .. account)
    return {1, replica}
  end
end

if redis.call('HEXISTS', worker_key(worker, 'tickets'), ticket) == 1 then return {0, ''} end
if mode == 'new' then
  if waiting_here >= waiting_max then
    local first = redis.call('ZRANGE', tickets_key, 0, 0)[1]
    -- Behind its own account's concurrency it stands behind the whole line.
    local place = first and redis.call('ZRANK', line_key, first)
    return {-2, '', place or redis.call('ZCARD', line_key)}
  end
  local waiting = tonumber(redis.call('HGET', state_key, 'waiting') or 0)
  local places_kept = has_places and count_places(account) or 0
  -- A kept place is honoured beyond the bound; twice the bound is the end of everything.
  if waiting >= tonumber(ARGV[7]) * (places_kept > 0 and 2 or 1) then
    -- Those who wait may all be turned away, and keep theirs: together they are no more than may be.
    local is_kept = places_kept + waiting_here < waiting_max
      and keep_place(account, ticket, stand(account), tonumber(ARGV[9]), waiting_max)
    return {-3, '', is_kept and 1 or 0}
  end
end

local place = may_take_place and take_place(account, charge) or nil
redis.call('HSET', worker_key(worker, 'tickets'), ticket,
  pack_ticket(account, ARGV[4], ARGV[5], avoid, ARGV[6], place, tokens, prefix))
redis.call('HINCRBY', state_key, 'waiting', 1)
if mode == 'retry' then
  enter_line(ticket, account, charge, tokens, least_start() - 1, now_ms)
else
  hold_back(ticket, account, place)
  promote(account)
end
return {0, '', unpack(dispatch(worker))}

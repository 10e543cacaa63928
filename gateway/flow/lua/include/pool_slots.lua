-- Slots: replicas' counts, and which replica a request gets.

-- How long a conversation's replica is remembered: about as long as a cached prefix lives in a busy
-- engine, and what bounds the number of such keys.
local PREFIX_REMEMBERED_S = 600
-- How much fuller than the emptiest a replica may be, as a share of its slots, for a conversation to
-- return to it: requests that begin alike and come at once would fill one replica. On two cores a
-- cached prompt of 500 tokens saves as much as four more in a batch of 32 cost over 90 tokens.
local PREFIX_FULLER_SHARE = 1 / 8

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

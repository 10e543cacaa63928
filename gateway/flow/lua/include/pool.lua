-- What the scripts of a pool share: its keys, its replicas' slots, the line in front of them, and
-- the workers that hold both. KEYS[1] is the pool's prefix; gateway/flow/redis_keys.py lists what
-- lies behind it.
local pool = KEYS[1]
local slots_key, capacity_key = pool .. ':slots', pool .. ':capacity'
local room_key = pool .. ':room'
local leases_key, state_key = pool .. ':leases', pool .. ':state'
local line_key, counters_key = pool .. ':line', pool .. ':counters'
local running_key, service_key = pool .. ':running', pool .. ':service'
local stays_key = pool .. ':stays'
local served_key, entered_key = pool .. ':served', pool .. ':entered'

local function worker_key(worker, kind) return pool .. ':worker:' .. worker .. ':' .. kind end
local function account_key(account, kind) return pool .. ':account:' .. account .. ':' .. kind end
local function prefix_key(prefix) return pool .. ':prefix:' .. prefix end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function has_lease(worker)
  return redis.call('ZSCORE', leases_key, worker)
end

--!include pool_slots.lua
--!include pool_tickets.lua
--!include pool_places.lua
--!include pool_line.lua
--!include pool_workers.lua

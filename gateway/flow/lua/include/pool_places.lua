-- Places that are kept for callers who were turned away. A place is the ticket that had it and the
-- start that this had, until an end of its own. It holds no slot and costs nothing: as its ticket
-- leaves the line, those of the account behind it move up. No token is asked of the caller: the
-- account's next request takes the place of who came first, and the others begin where that ends.

-- Drops the account's places that have ended. Returns how many are left.
local function count_places(account)
  local kept_key, ends_key = account_key(account, 'kept'), account_key(account, 'kept_ends')
  local ended = redis.call('ZRANGEBYSCORE', ends_key, '-inf', now_ms)
  if ended[1] then
    redis.call('ZREMRANGEBYSCORE', ends_key, '-inf', now_ms)
    for _, place in ipairs(ended) do redis.call('ZREM', kept_key, place) end
  end
  return redis.call('ZCARD', kept_key)
end

-- Keeps a place where the account has fewer than `places_max`. Returns whether it does.
local function keep_place(account, ticket, start, keep_ms, places_max)
  if count_places(account) >= places_max then return false end
  -- Of equal scores the ids decide, which begin with the time.
  local place = string.format('%s %.17g', ticket, start)
  redis.call('ZADD', account_key(account, 'kept'), 0, place)
  redis.call('ZADD', account_key(account, 'kept_ends'), now_ms + keep_ms, place)
  -- Nobody may come any more who drops them; a later, shorter promise ends no earlier one.
  for _, kind in ipairs({'kept', 'kept_ends'}) do
    local key = account_key(account, kind)
    if redis.call('PTTL', key) < keep_ms then redis.call('PEXPIRE', key, keep_ms) end
  end
  return true
end

-- The account's first place, for a request of this charge: {ticket that had it, start}, or nil.
local function take_place(account, charge)
  local left = count_places(account) - 1
  if left < 0 then return end
  local kept_key, floor_key = account_key(account, 'kept'), account_key(account, 'floor')
  local place, score = unpack(redis.call('ZPOPMIN', kept_key))
  redis.call('ZREM', account_key(account, 'kept_ends'), place)
  local ticket, kept_start = string.match(place, '^(%S+) (%S+)$')
  if not ticket then ticket, kept_start = place, score end  -- kept by a script of an earlier version
  local start = math.max(tonumber(kept_start), tonumber(redis.call('GET', floor_key) or '-inf'))
  if left > 0 then
    redis.call('SET', floor_key, string.format('%.17g', start + charge),
      'PX', redis.call('PTTL', kept_key))
  else
    redis.call('DEL', floor_key)
  end
  return {ticket = ticket, start = start}
end

-- One that had taken a place leaves: the account's other places move up again.
local function lower_floor(account, charge)
  local floor = redis.call('GET', account_key(account, 'floor'))
  if floor then
    redis.call('SET', account_key(account, 'floor'), string.format('%.17g', floor - charge),
      'XX', 'KEEPTTL')
  end
end

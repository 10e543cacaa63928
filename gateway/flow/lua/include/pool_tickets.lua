-- Tickets: what is known of each, and by its name alone.

-- What a worker keeps of its ticket: account, charge, concurrent requests, replica to avoid, as many
-- of the account's requests as may wait, the place that it took (the ticket that had it, its start),
-- tokens that it has reserved, digest of its conversation or nil. All from the replica on is one
-- word, so that scripts of earlier versions read the ticket too, while gateways are replaced one by
-- one. They take what they do not know of it for the name of a replica.
local function pack_ticket(account, charge, concurrent, avoid, waiting_max, place, tokens, prefix)
  if place then
    waiting_max = string.format('%s,%s,%.17g', waiting_max, place.ticket, place.start)
  end
  return table.concat({account, charge, concurrent,
    table.concat({avoid, waiting_max, tokens, prefix or ''}, '|')}, ' ')
end

local function unpack_ticket(ticket, packed)
  local account, charge, concurrent, word = string.match(packed, '^(%S+) (%S+) (%S+) (%S+)$')
  local avoid, tokens, prefix = string.match(word, '^(.+)|(%d+)|(%x*)$')
  if not avoid then
    avoid, prefix = string.match(word, '^(.+)|(%x+)$')
  end
  if prefix == '' then prefix = nil end
  local found = {account = account, charge = tonumber(charge), concurrent = tonumber(concurrent),
    avoid = avoid or word, prefix = prefix, tokens = tonumber(tokens or 0),
    waiting_max = math.huge, came_as = ticket}
  local bare, waiting_max, place = string.match(found.avoid, '^(.+)|(%d+),?(.*)$')
  if bare then found.avoid, found.waiting_max = bare, tonumber(waiting_max) end
  if bare and place ~= '' then
    local came_as, start = string.match(place, '^(.+),(.+)$')
    found.came_as, found.kept_start = came_as, tonumber(start)
  end
  return found
end

local function worker_of(ticket) return string.match(ticket, '^%d+%-(%x+)%-') end

local function ticket_of(ticket)
  local packed = redis.call('HGET', worker_key(worker_of(ticket), 'tickets'), ticket)
  if packed then return unpack_ticket(ticket, packed) end
end

local function arrived_ms(ticket) return tonumber(string.match(ticket, '^%d+')) end

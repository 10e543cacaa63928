--!include pool.lua
-- Slots given back, charges corrected, grants acknowledged; who is next gets the slots.
-- ARGV: worker, number of replicas, replica and slots …, number of accounts, account, requests
--   that ended and correction of its charge …, tickets whose grant has arrived …
-- Returns tickets granted to this worker, replica, account, or {-1} when its lease has ended
--   (its slots were given back with it).
local worker = ARGV[1]
if not has_lease(worker) then return {-1} end
local i = 3
for _ = 1, tonumber(ARGV[2]) do
  count_slots(ARGV[i], -ARGV[i + 1])
  add(worker_key(worker, 'slots'), ARGV[i], -ARGV[i + 1])
  i = i + 2
end
local accounts_end = i + 3 * tonumber(ARGV[i])
for j = i + 1, accounts_end, 3 do
  local account, ended, correction = ARGV[j], tonumber(ARGV[j + 1]), tonumber(ARGV[j + 2])
  if ended > 0 then
    add(running_key, account, -ended)
    add(worker_key(worker, 'accounts'), account, -ended)
  end
  if correction ~= 0 then
    shift(account, correction)
    if redis.call('HEXISTS', service_key, account) == 1 then
      redis.call('HINCRBYFLOAT', service_key, account, correction)
    end
  end
  promote(account)
end
if ARGV[accounts_end + 1] then
  redis.call('HDEL', worker_key(worker, 'grants'), unpack(ARGV, accounts_end + 1))
end
return dispatch(worker)

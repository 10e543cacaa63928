--!include pool.lua
-- Slots given back, charges corrected, grants acknowledged; who is next gets the slots.
-- ARGV: worker, number of its batch of corrections (0: none), number of replicas, replica and
--   slots …, number of accounts, account, requests that ended and correction of its charge …,
--   tickets whose grant has arrived …
-- A batch of corrections is sent until it is answered, and counts once.
-- Returns tickets granted to this worker, replica, account, or {-1} when its lease has ended
--   (its slots were given back with it; corrections count all the same).
local worker, batch = ARGV[1], tonumber(ARGV[2])
-- How long a worker may take to send a batch again: as long as Redis may be gone for.
local BATCH_REMEMBERED_MS = 3600000
local is_known = has_lease(worker)
local i = 4
for _ = 1, tonumber(ARGV[3]) do
  if is_known then
    count_slots(ARGV[i], -ARGV[i + 1])
    add(worker_key(worker, 'slots'), ARGV[i], -ARGV[i + 1])
  end
  i = i + 2
end
local is_new = false
if batch > 0 then
  local corrected_key = pool .. ':corrected:' .. worker
  is_new = tonumber(redis.call('GET', corrected_key) or 0) < batch
  if is_new then redis.call('SET', corrected_key, batch, 'PX', BATCH_REMEMBERED_MS) end
end
local accounts_end = i + 3 * tonumber(ARGV[i])
for j = i + 1, accounts_end, 3 do
  local account, ended, correction = ARGV[j], tonumber(ARGV[j + 1]), tonumber(ARGV[j + 2])
  if ended > 0 and is_known then
    add(running_key, account, -ended)
    add(worker_key(worker, 'accounts'), account, -ended)
  end
  if correction ~= 0 and is_new then
    shift(account, correction)
    if redis.call('HEXISTS', service_key, account) == 1 then
      redis.call('HINCRBYFLOAT', service_key, account, correction)
    end
  end
  promote(account)
end
if not is_known then return {-1} end
if ARGV[accounts_end + 1] then
  redis.call('HDEL', worker_key(worker, 'grants'), unpack(ARGV, accounts_end + 1))
end
return dispatch(worker)

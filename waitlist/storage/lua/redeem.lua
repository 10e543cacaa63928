-- Turns a code into an account with a key, exactly once. Everything is checked before the first
-- write, so a refusal leaves the code good.
--
-- KEYS[1] invite  [2] account id of the address  [3] account  [4] key
-- KEYS[5] keys by number  [6] last key number  [7] audit stream  [8] keys of the account
-- KEYS[9] answer under an Idempotency-Key  [10] statistics of the day  [11] address bucket
-- KEYS[12] line  [13] invited  [14] refusals of the network  [15] refusals of the code
-- ARGV[1] now, ms  [2] actor  [3] invite id  [4] digest of the code  [5] account id
-- ARGV[6] e-mail  [7] digest of the e-mail  [8] key id  [9] digest of the key  [10] key hint
-- ARGV[11] fingerprint of the request  [12] the answer, sealed, or ''  [13] life of the answer, ms
-- ARGV[14] field of the address in its bucket  [15] prefix of accounts  [16] prefix of guests
-- ARGV[17] prefix of entries  [18] prefix of campaigns  [19] refusals that a network may have in its
--   time, or '' where the network is not known  [20] that time, ms  [21] refusals that a code for
--   one may have, one for many as many as its uses where those are more  [22] that time, ms
-- Returns {'redeemed', plan}, {'replayed', plan, sealed answer}, {'too_many_refusals', '', ms until
--   it may be tried again} or {reason of the refusal}.
--
-- The ids are drawn anew for each attempt. Where this attempt's own key is there, its answer got
-- lost and it was sent again: the answer is the same. A refusal that tells something about an address
-- is counted, once for each attempt; whoever has a good code could try addresses with it otherwise.

local function refused_before(counter, most)
  local row = redis.call('HMGET', counter, 'count', 'last')
  return tonumber(row[1] or 0) >= most and row[2] ~= ARGV[8]
end

local function count_refusal(counter, life_ms)
  if redis.call('HGET', counter, 'last') ~= ARGV[8] then
    redis.call('HSET', counter, 'last', ARGV[8])
    if redis.call('HINCRBY', counter, 'count', 1) == 1 then
      redis.call('PEXPIRE', counter, life_ms)
    end
  end
end

if redis.call('HGET', KEYS[4], 'digest') == ARGV[9] then
  return {'redeemed', redis.call('HGET', KEYS[3], 'plan')}
end
if ARGV[12] ~= '' then
  local stored = redis.call('HMGET', KEYS[9], 'fingerprint', 'sealed', 'account_id')
  if stored[1] == ARGV[11] then
    return {'replayed', redis.call('HGET', ARGV[15] .. stored[3], 'plan'), stored[2]}
  elseif stored[1] then
    return {'idempotency_key_reused'}
  end
end

local invite = redis.call('HMGET', KEYS[1],
  'digest', 'plan', 'expires_at_ms', 'used_at_ms', 'revoked_at_ms', 'uses_max', 'uses',
  'address', 'campaign', 'inviter', 'entry')
local digest, plan, expires_at_ms, used_at_ms, revoked_at_ms, uses_max, uses = unpack(invite, 1, 7)
local address, campaign, inviter, entry_id = unpack(invite, 8, 11)

if digest ~= ARGV[4] then
  return {'code_unknown'}
elseif used_at_ms then
  return {'code_used'}
elseif revoked_at_ms or inviter and redis.call('HEXISTS', ARGV[15] .. inviter, 'revoked_at_ms') == 1
then
  return {'code_revoked'}
elseif expires_at_ms ~= '' and tonumber(expires_at_ms) <= tonumber(ARGV[1]) then
  return {'code_expired'}
elseif campaign and redis.call('HEXISTS', ARGV[18] .. campaign, 'paused_at_ms') == 1 then
  return {'campaign_paused'}
elseif ARGV[19] ~= '' and refused_before(KEYS[14], tonumber(ARGV[19])) then
  return {'too_many_refusals', '', redis.call('PTTL', KEYS[14])}
elseif refused_before(KEYS[15], math.max(tonumber(ARGV[21]), tonumber(uses_max or 0))) then
  return {'too_many_refusals', '', redis.call('PTTL', KEYS[15])}
end

local about_address
if address and address ~= ARGV[7] then
  about_address = 'code_bound'
elseif redis.call('EXISTS', KEYS[2]) == 1 then
  about_address = 'email_has_account'
end
if about_address then
  if ARGV[19] ~= '' then
    count_refusal(KEYS[14], ARGV[20])
  end
  count_refusal(KEYS[15], ARGV[22])
  return {about_address}
elseif redis.call('EXISTS', KEYS[3], KEYS[4]) > 0 then
  return redis.error_reply('IDTAKEN an account or key of this id exists')
end

if uses_max then
  uses = redis.call('HINCRBY', KEYS[1], 'uses', 1)
  if uses == tonumber(uses_max) then
    redis.call('HSET', KEYS[1], 'used_at_ms', ARGV[1])
  end
else
  redis.call('HSET', KEYS[1], 'used_at_ms', ARGV[1], 'account_id', ARGV[5], 'key_id', ARGV[8])
end
redis.call('SET', KEYS[2], ARGV[5])
redis.call('HSET', KEYS[3], 'email', ARGV[6], 'plan', plan, 'created_at_ms', ARGV[1],
  'invite_id', ARGV[3])
redis.call('HSET', KEYS[4], 'digest', ARGV[9], 'hint', ARGV[10], 'account_id', ARGV[5],
  'created_at_ms', ARGV[1])
redis.call('ZADD', KEYS[5], redis.call('INCR', KEYS[6]), ARGV[8])
redis.call('ZADD', KEYS[8], ARGV[1], ARGV[8])
if inviter then
  redis.call('HSET', KEYS[3], 'inviter', inviter)
  redis.call('ZADD', ARGV[16] .. inviter, ARGV[1], ARGV[5])
end
if campaign then
  redis.call('HINCRBY', ARGV[18] .. campaign, 'redeemed', 1)
end

-- The person's place, by the invite or by the address: an account needs no second invite.
local places = {entry_id or false, redis.call('HGET', KEYS[11], ARGV[14])}
for i = 1, 2 do
  local id = places[i]
  local state = id and redis.call('HGET', ARGV[17] .. id, 'state')
  if state == 'waiting' or state == 'invited' then
    redis.call('HSET', ARGV[17] .. id, 'state', 'redeemed')
    redis.call('HSET', KEYS[3], 'entry', id)
    redis.call('ZREM', KEYS[12], id)
    redis.call('ZREM', KEYS[13], id)
  end
end

if ARGV[12] ~= '' then
  redis.call('HSET', KEYS[9], 'fingerprint', ARGV[11], 'sealed', ARGV[12], 'account_id', ARGV[5])
  redis.call('PEXPIRE', KEYS[9], ARGV[13])
end
redis.call('HINCRBY', KEYS[10], 'redeemed', 1)
redis.call('XADD', KEYS[7], '*', 'action', 'invite_redeemed', 'actor', ARGV[2], 'at_ms', ARGV[1],
  'invite_id', ARGV[3], 'account_id', ARGV[5], 'key_id', ARGV[8], 'email_digest', ARGV[7])
return {'redeemed', plan}

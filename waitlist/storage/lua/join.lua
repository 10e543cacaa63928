-- Puts a person into the line. Every join makes an entry of its own, whoever is on the list.
--
-- KEYS[1] entry  [2] line  [3] last number of the line  [4] pending  [5] outbox
-- KEYS[6] joins of the network  [7] joins of the mailbox  [8] spent proof  [9] pauses
-- KEYS[10] statistics of the day  [11] address bucket
-- ARGV[1] now, ms  [2] entry id  [3] e-mail  [4] locale  [5] note or ''  [6] consent, '1' or ''
-- ARGV[7] entry id whose link was followed, or ''  [8] end of the time to confirm, ms, or '' where
--   nobody has to  [9] joins of a network in its time  [10] that time, ms
-- ARGV[11] mails to a mailbox in its time  [12] that time, ms  [13] end of the proof, ms, or ''
-- ARGV[14] field of the address in its bucket  [15] how long an Idempotency-Key gives the same
--   answer, ms, or '' where none came: then the id was drawn for this attempt alone
-- Returns {'joined', people ahead}, {'repeated', 0} or {reason of the refusal, ms until it may be
-- tried again}. ARGV[13] may be 'refused': such a proof gets nobody a new place.
--
-- Whoever asks again finds the entry before anything is counted, spent or asked for.

local found = redis.call('HMGET', KEYS[1], 'at', 'email', 'locale', 'note', 'consent', 'by')
local at = found[1]
if at then
  if ARGV[15] ~= '' then
    if not found[2] then
      return {'place_gone', 0}
    end
    local sent = {ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]}
    local same = tonumber(at) + tonumber(ARGV[15]) > tonumber(ARGV[1])
    for i, value in ipairs(sent) do
      same = same and (found[i + 1] or '') == value
    end
    if not same then
      return {'idempotency_key_reused', 0}
    end
  end
  if at == ARGV[1] then
    return {'joined', redis.call('ZRANK', KEYS[2], ARGV[2]) or 0}
  elseif ARGV[15] ~= '' then
    return {'repeated', 0}
  end
  return redis.error_reply('IDTAKEN an entry of this id exists')
elseif redis.call('HEXISTS', KEYS[9], 'joining') == 1 then
  return {'waitlist_paused', 0}
elseif ARGV[13] == 'refused' then
  return {'proof_refused', 0}
elseif ARGV[13] ~= '' and redis.call('EXISTS', KEYS[8]) == 1 then
  return {'proof_used', 0}
elseif tonumber(redis.call('GET', KEYS[6]) or 0) >= tonumber(ARGV[9]) then
  return {'too_many_joins', redis.call('PTTL', KEYS[6])}
end

if ARGV[13] ~= '' then
  redis.call('SET', KEYS[8], '1', 'PXAT', ARGV[13])
end
if redis.call('INCR', KEYS[6]) == 1 then
  redis.call('PEXPIRE', KEYS[6], ARGV[10])
end
local mails = redis.call('INCR', KEYS[7])
if mails == 1 then
  redis.call('PEXPIRE', KEYS[7], ARGV[12])
end

local confirmed = ARGV[8] == ''
local entry = {'state', confirmed and 'waiting' or 'pending', 'at', ARGV[1], 'email', ARGV[3]}
local optional = {locale = ARGV[4], note = ARGV[5], consent = ARGV[6], by = ARGV[7]}
for name, value in pairs(optional) do
  if value ~= '' then
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
end
if mails > tonumber(ARGV[11]) then
  entry[#entry + 1] = 'mute'
  entry[#entry + 1] = '1'
end
redis.call('HSET', KEYS[1], unpack(entry))
redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[2])
redis.call('HINCRBY', KEYS[10], 'joined', 1)
if confirmed then
  redis.call('HSET', KEYS[11], ARGV[14], ARGV[2])
  redis.call('HINCRBY', KEYS[10], 'confirmed', 1)
else
  redis.call('ZADD', KEYS[4], ARGV[8], ARGV[2])
  redis.call('ZADD', KEYS[5], ARGV[1], 'confirm:' .. ARGV[2])
end
return {'joined', redis.call('ZRANK', KEYS[2], ARGV[2])}

-- Checks a page of mails: each is for an entry.
--
-- KEYS[1] the sorted set   ARGV[1] rank of the page's first  [2] mails a page  [3] prefix of entries
-- Returns {rows that were read, {mail id, what is wrong with it} pairs, flat}.
--
-- A place that was not confirmed in time ends with its mail still on the way; nothing else does.

local page = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
local wrong = {}
for _, id in ipairs(page) do
  local kind, entry_id = string.match(id, '^(%a+):(.+)$')
  local what
  if kind ~= 'confirm' and kind ~= 'invite' then
    what = 'it is of no kind that we send'
  elseif kind == 'invite' and redis.call('HEXISTS', ARGV[3] .. entry_id, 'invite') == 0 then
    what = 'it has an invite for a place that is not there or has none'
  end
  if what then
    wrong[#wrong + 1] = id
    wrong[#wrong + 1] = what
  end
end
return {#page, wrong}

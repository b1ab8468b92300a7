-- Forgets buckets of rates that nobody has taken from for so long, and that are full again: one that is missing counts as
-- full, unless Redis was made anew since. So keys of long ago (`domain:…`) don't pile up.
-- KEYS  meta (shared.lua names the others)
-- ARGV  JSON: generation, seen (ops), now, idle (ms), cursor, count
-- Answers nothing when Redis is not ours, else JSON: ops, cursor (0: all was looked at), gone.
local ask = cjson.decode(ARGV[1])
local ops = ours(ask.generation, ask.seen)
if not ops then return false end
local before = ask.now - ask.idle
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or 0)
if since > before then return cjson.encode({ops = ops, cursor = 0, gone = 0}) end

local found = redis.call('HSCAN', prefix .. 'buckets', ask.cursor, 'COUNT', ask.count)
local gone = {}
for i = 1, #found[2], 2 do
  local level, at = string.match(found[2][i + 1], '^(%S+) (%S+)$')
  level, at = tonumber(level), tonumber(at)
  if at and at < before then
    local rate = rate_of(found[2][i])
    if not rate or level + (ask.now - at) * rate[2] >= rate[3] then gone[#gone + 1] = found[2][i] end
  end
end
in_chunks('HDEL', prefix .. 'buckets', gone)
return cjson.encode({ops = ops, cursor = tonumber(found[1]), gone = #gone})

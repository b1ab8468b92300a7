-- Carries out what committed transactions mean for Redis.
-- KEYS  meta (shared.lua names the others)
-- ARGV  JSON: generation, seen (ops), now, expiry (ms), and in this order
--   limits  key -> its state as text, or false: gone
--   forget  lists of stage, members that are leased no longer, limit key -> how many of them name it
--   ready   lists of stage, members that are startable, their ranks, whether these are other than the seqs
--   extend  lists of stage, members that are leased until the expiry, if they are leased
--   renew   lists of stage, members that are leased until the expiry, whether they were or not
--   used    `key dimension` -> used more than was taken
--   named   fields of meta, when all is made anew: only if nobody came between
-- Answers false when Redis is not ours, else ops. All of this is rebuilt then, and what can be said is said all the same:
-- but of a lease nobody knows whether it is the one that ended or a later one; those that stay run out.
local ask = cjson.decode(ARGV[1])
local ops = ours(ask.generation, ask.seen)
if not ops and redis.call('EXISTS', KEYS[1]) == 0 then return false end

local slots, shares, freed = {}, {}, {}
local parked = redis.call('EXISTS', prefix .. 'parkers') == 1
local valves = (tonumber(redis.call('HGET', KEYS[1], 'valves')) or 0) > 0

local function count(stage, by)
  local run = 'run:' .. run_of(stage)
  shares[run] = (shares[run] or 0) + by
end

local function count_keys(lane, by)
  for name in string.gmatch(lane, '%S+') do slots[name] = (slots[name] or 0) + by end
end

---- limits
local changed = {}
for name, text in pairs(ask.limits or {}) do
  local hash = prefix .. (string.sub(name, -1) == '*' and 'patterns' or 'limits')
  local before = redis.call('HGET', hash, name)
  if text then
    redis.call('HSET', hash, name, text)
  else
    redis.call('HDEL', hash, name)
  end
  local valve = string.sub(name, 1, 6) == 'stage:' or string.sub(name, 1, 5) == 'lane:'
  if valve and (not before) ~= (not text) then redis.call('HINCRBY', KEYS[1], 'valves', text and 1 or -1) end
  changed[#changed + 1] = name
end
for _, name in ipairs(changed) do
  if string.sub(name, -1) == '*' then
    local start = string.sub(name, 1, -2)
    for _, parker in ipairs(redis.call('HKEYS', prefix .. 'parkers')) do
      if string.sub(parker, 1, #start) == start then freed[parker] = true end
    end
  else
    freed[name] = true
  end
end

---- leases that end
for _, each in ipairs(ops and ask.forget or {}) do
  local stage, members, counts = each[1], each[2], each[3]
  local gone, scores = members, leased(stage, members)
  local whole = true
  for i = 1, #members do whole = whole and scores[i] end
  if whole then
    for name, by in pairs(counts) do slots[name] = (slots[name] or 0) - by end
  else
    gone = {}
    for i = 1, #members do
      if scores[i] then
        gone[#gone + 1] = members[i]
        count_keys(string.match(members[i], ' (.*)$'), -1)
      end
    end
  end
  if #gone > 0 then
    in_chunks('ZREM', prefix .. 'leases:' .. stage, gone)
    count(stage, -#gone)
    if parked then
      for name in pairs(counts) do freed[name] = true end
      if valves then
        freed['stage:' .. stage] = true
        for _, member in ipairs(gone) do freed['lane:' .. stage .. ':' .. string.match(member, ' (.*)$')] = true end
      end
    end
  end
end

---- items that can start; a stage that is not open is fed when it is
for _, each in ipairs(ask.ready or {}) do
  local stage, members, ranks, list = each[1], each[2], each[3], {}
  if redis.call('EXISTS', prefix .. 'fed:' .. stage) == 1 then
    if each[4] then redis.call('HSET', prefix .. 'fed:' .. stage, 'moved', 1) end
    local scores = leased(stage, members)
    for i = 1, #members do
      if not scores[i] then
        list[#list + 1] = ranks[i]
        list[#list + 1] = members[i]
      end
    end
    in_chunks('ZADD', prefix .. 'ready:' .. stage, list)
  end
end

---- leases that go on. One that has ended meanwhile by the word of another scheduler stays so.
for _, each in ipairs(ask.extend or {}) do
  local stage, members, list = each[1], each[2], {}
  local scores, expiry = leased(stage, members), string.format('%d', ask.expiry)
  for i = 1, #members do
    if scores[i] then
      list[#list + 1] = expiry
      list[#list + 1] = members[i]
    end
  end
  in_chunks('ZADD', prefix .. 'leases:' .. stage, list)
end

---- leases that are made anew
for _, each in ipairs(ask.renew or {}) do
  local stage, members, list, fresh = each[1], each[2], {}, {}
  local scores, expiry = leased(stage, members), string.format('%d', ask.expiry)
  for i = 1, #members do
    list[2 * i - 1], list[2 * i] = expiry, members[i]
    if not scores[i] then
      fresh[#fresh + 1] = members[i]
      count_keys(string.match(members[i], ' (.*)$'), 1)
    end
  end
  in_chunks('ZADD', prefix .. 'leases:' .. stage, list)
  if #fresh > 0 then
    in_chunks('ZREM', prefix .. 'ready:' .. stage, fresh)
    count(stage, #fresh)
  end
end

---- counts
local names = {}
for name, by in pairs(slots) do if by ~= 0 then names[#names + 1] = name end end
local held = fetch('slots', names)
for _, name in ipairs(names) do held[name] = (tonumber(held[name]) or 0) + slots[name] end
store_counts('slots', held)
names = {}
local runs = {}
for name in pairs(shares) do runs[#runs + 1] = string.sub(name, 5) end
local owners = fetch('owners', runs)
for _, run in ipairs(runs) do
  local owner, by = owners[run], shares['run:' .. run]
  if owner then shares['owner:' .. owner] = (shares['owner:' .. owner] or 0) + by end
end
for name in pairs(shares) do names[#names + 1] = name end
held = fetch('shares', names)
for _, name in ipairs(names) do held[name] = (tonumber(held[name]) or 0) + shares[name] end
store_counts('shares', held)

---- rates: what was used besides what was taken. A debt is of an hour at most: what says that it used more than any
---- rate refills would close its key for good.
if ask.used then
  local fields = {}
  for field in pairs(ask.used) do fields[#fields + 1] = field end
  local list = {}
  for field, text in pairs(fetch('buckets', fields)) do
    if text then
      local level, at = string.match(text, '^(%S+) (%S+)$')
      local rate = rate_of(field)
      level = tonumber(level) - ask.used[field]
      if rate and ask.used[field] > 0 then level = math.max(level, -3600000 * rate[2]) end
      list[#list + 1] = field
      list[#list + 1] = string.format('%.17g ', level) .. at
      if ask.used[field] < 0 and parked then freed[string.match(field, '^%S+')] = true end
    end
  end
  in_chunks('HSET', prefix .. 'buckets', list)
end

names = {}
for name in pairs(freed) do names[#names + 1] = name end
if #names > 0 then free(names) end
if ops and ask.named then
  for field, value in pairs(ask.named) do redis.call('HSET', KEYS[1], field, value) end
end
return ops

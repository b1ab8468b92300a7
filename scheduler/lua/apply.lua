-- Carries out what committed transactions mean for Redis.
-- KEYS  meta (shared.lua names the others)
-- ARGV  JSON: generation, seen (ops), now, expiry (ms), and in this order
--   limits  key -> its state as text, or false: gone
--   forget  stage -> lane -> seqs that are leased no longer
--   ready   stage -> lane -> seqs that are startable at their rank, which is the seq
--   moved   stage -> lane -> {seq, rank, seq, rank, ...}
--   renew   stage -> lane -> seqs that are leased until the expiry
--   used    lane -> dimension -> used more than was taken
-- Answers false when Redis is not ours (all of this is rebuilt then; what can be said is said all the same), else ops.
local ask = cjson.decode(ARGV[1])
local ops = ours(ask.generation, ask.seen)
if not ops and redis.call('EXISTS', KEYS[1]) == 0 then return false end

local slots, shares, freed = {}, {}, {}

local function members_of(lane, seqs)
  local members, tail = {}, ' ' .. lane
  for i, seq in ipairs(seqs) do members[i] = string.format('%d', seq) .. tail end
  return members
end

local function count(stage, lane, by)
  for _, name in ipairs(keys_of(lane)) do slots[name] = (slots[name] or 0) + by end
  local run = run_of(stage)
  shares['run:' .. run] = (shares['run:' .. run] or 0) + by
  if by < 0 then
    freed['stage:' .. stage], freed['lane:' .. stage .. ':' .. lane] = true, true
    for _, name in ipairs(keys_of(lane)) do freed[name] = true end
  end
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
for stage, lanes in pairs(ask.forget or {}) do
  for lane, seqs in pairs(lanes) do
    local members, gone = members_of(lane, seqs), {}
    for i, score in ipairs(leased(stage, members)) do
      if score then gone[#gone + 1] = members[i] end
    end
    if #gone > 0 then
      in_chunks('ZREM', prefix .. 'leases:' .. stage, gone)
      count(stage, lane, -#gone)
    end
  end
end

---- items that can start; a stage that is not open is fed when it is
local function make_ready(stage, lane, members, ranks)
  local pairs_ = {}
  for i, score in ipairs(leased(stage, members)) do
    if not score then
      pairs_[#pairs_ + 1] = ranks[i]
      pairs_[#pairs_ + 1] = members[i]
    end
  end
  in_chunks('ZADD', prefix .. 'ready:' .. stage, pairs_)
end
for stage, lanes in pairs(ask.ready or {}) do
  if redis.call('EXISTS', prefix .. 'fed:' .. stage) == 1 then
    for lane, seqs in pairs(lanes) do make_ready(stage, lane, members_of(lane, seqs), seqs) end
  end
end
for stage, lanes in pairs(ask.moved or {}) do
  if redis.call('EXISTS', prefix .. 'fed:' .. stage) == 1 then
    for lane, list in pairs(lanes) do
      local seqs, ranks = {}, {}
      for i = 1, #list, 2 do
        seqs[#seqs + 1], ranks[#ranks + 1] = list[i], list[i + 1]
      end
      make_ready(stage, lane, members_of(lane, seqs), ranks)
    end
  end
end

---- leases that go on
for stage, lanes in pairs(ask.renew or {}) do
  for lane, seqs in pairs(lanes) do
    local members, list, fresh = members_of(lane, seqs), {}, {}
    for i, score in ipairs(leased(stage, members)) do
      list[#list + 1] = ask.expiry
      list[#list + 1] = members[i]
      if not score then fresh[#fresh + 1] = members[i] end
    end
    in_chunks('ZADD', prefix .. 'leases:' .. stage, list)
    if #fresh > 0 then
      in_chunks('ZREM', prefix .. 'ready:' .. stage, fresh)
      count(stage, lane, #fresh)
    end
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

---- rates: what was used besides what was taken
local levels, wanted = {}, {}
for lane, dimensions in pairs(ask.used or {}) do
  for _, name in ipairs(keys_of(lane)) do
    for dimension, more in pairs(dimensions) do
      if more ~= 0 then
        local field = name .. ' ' .. dimension
        if not wanted[field] then levels[#levels + 1] = field end
        wanted[field] = (wanted[field] or 0) + more
        if more < 0 then freed[name] = true end
      end
    end
  end
end
local stored, list = fetch('buckets', levels), {}
for field, text in pairs(stored) do
  if text then
    local level, at = string.match(text, '^(%S+) (%S+)$')
    list[#list + 1] = field
    list[#list + 1] = string.format('%.17g ', tonumber(level) - wanted[field]) .. at
  end
end
in_chunks('HSET', prefix .. 'buckets', list)

names = {}
for name in pairs(freed) do names[#names + 1] = name end
if #names > 0 then free(names) end
return ops

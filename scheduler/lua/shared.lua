-- What every script begins with: the names of keys, what a lane is, how held slots are counted.
-- KEYS[1] is PREFIX:meta; the other keys have the same prefix and hash tag:
--   meta      hash: generation, ops (+ 1 by every script), since (ms of the rebuild), valves (limits no item names)
--   slots     hash: limit key -> live leases            shares   hash: run:N, owner:NAME -> live leases
--   owners    hash: run -> owner                        parkers  hash: limit key -> stages that wait for it
--   room      string: written to see whether there is memory
--   limits    hash: key -> its state                    patterns hash: the same, for keys that end in *
--   buckets   hash: key dimension -> level at
--   ready:S   zset: `seq lane` by rank                  leases:S zset: `seq lane` by expiry
--   parked:S:KEY zset: ready items that KEY holds back  blocked:S zset: KEY by when it is worth a look, 0: now
--   fed:S     hash: epoch, moved (ranks are not all seqs), main, rows, lane:LANE -> how far
--   waiting:S hash: lane -> its parked items
-- Members enter a set only if they are not leased, and counts move only by what was really added or removed: so held
-- slots are live leases, whatever is sent twice.
local CHUNK = 1000
local prefix = string.sub(KEYS[1], 1, -5)

local function keys_of(lane)
  local found = {}
  for name in string.gmatch(lane, '%S+') do found[#found + 1] = name end
  return found
end

local function run_of(stage)
  return string.match(stage, '^%d+')
end

-- HMGET of any number of fields: field -> value
local function fetch(hash, fields)
  local found = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    local values = redis.call('HMGET', prefix .. hash, unpack(fields, first, last))
    for i = first, last do found[fields[i]] = values[i - first + 1] end
  end
  return found
end

-- ZADD and the like with any number of arguments; `step` keeps pairs together
local function in_chunks(command, name, arguments)
  for first = 1, #arguments, CHUNK do
    redis.call(command, name, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end

-- Writes counts back; a count of nothing leaves no field.
local function store_counts(hash, counts)
  local kept, gone = {}, {}
  for name, count in pairs(counts) do
    if count > 0 then
      kept[#kept + 1] = name
      kept[#kept + 1] = count
    else
      gone[#gone + 1] = name
    end
  end
  in_chunks('HSET', prefix .. hash, kept)
  in_chunks('HDEL', prefix .. hash, gone)
end

-- The score of each member in `leases` of a stage, false where it is not leased.
local function leased(stage, members)
  local found = {}
  for first = 1, #members, CHUNK do
    local last = math.min(first + CHUNK - 1, #members)
    local scores = redis.call('ZMSCORE', prefix .. 'leases:' .. stage, unpack(members, first, last))
    for i = first, last do found[i] = scores[i - first + 1] end
  end
  return found
end

-- The highest rank that may be proposed: above the lowest cursor of what is still to be read, something of a lower rank
-- may be missing. A lane that is read apart matters only when none of it waits for a limit.
local END = 1e13
local function horizon_of(stage, fed, parked)
  local lowest, lanes, cursors = math.huge, {}, {}
  for i = 1, #fed, 2 do
    local name, cursor = fed[i], tonumber(fed[i + 1])
    if cursor < END and name ~= 'epoch' and name ~= 'moved' then
      if string.sub(name, 1, 5) == 'lane:' then
        lanes[#lanes + 1] = string.sub(name, 6)
        cursors[lanes[#lanes]] = cursor
      else
        lowest = math.min(lowest, cursor)
      end
    end
  end
  local waiting = fetch('waiting:' .. stage, lanes)
  for _, lane in ipairs(lanes) do
    if (tonumber(waiting[lane]) or 0) + (parked[lane] or 0) <= 0 then lowest = math.min(lowest, cursors[lane]) end
  end
  return lowest
end

-- How many are ready up to that rank
local function ready_of(stage, horizon)
  if horizon == math.huge then return redis.call('ZCARD', prefix .. 'ready:' .. stage) end
  return redis.call('ZCOUNT', prefix .. 'ready:' .. stage, '-inf', horizon)
end

-- Notes that these keys are worth a look now, in every stage that waits for them.
local function free(names)
  local found = fetch('parkers', names)
  for name, stages in pairs(found) do
    if stages then
      local still = {}
      for stage in string.gmatch(stages, '%S+') do
        if redis.call('ZSCORE', prefix .. 'blocked:' .. stage, name) then
          redis.call('ZADD', prefix .. 'blocked:' .. stage, 0, name)
          still[#still + 1] = stage
        end
      end
      if #still == 0 then
        redis.call('HDEL', prefix .. 'parkers', name)
      else
        redis.call('HSET', prefix .. 'parkers', name, table.concat(still, ' '))
      end
    end
  end
end

-- The state of the longest pattern that takes a key without a limit of its own.
local patterns, parsed = nil, {}
local function pattern_of(name)
  if not patterns then
    patterns = {}
    local all = redis.call('HGETALL', prefix .. 'patterns')
    for i = 1, #all, 2 do patterns[#patterns + 1] = {string.sub(all[i], 1, -2), all[i + 1]} end
    table.sort(patterns, function(a, b) return #a[1] > #b[1] end)
  end
  for i = 1, #patterns do
    local start = patterns[i][1]
    if string.sub(name, 1, #start) == start then return patterns[i][2] end
  end
  return nil
end

-- {concurrency, closed, rates as they stand in the text}
local function parse(text)
  local concurrency, closed, rest = string.match(text, '^(%S+) (%S+)(.*)$')
  local found = {tonumber(concurrency), tonumber(closed), {}}
  for dimension, rate, burst, estimate in string.gmatch(rest, ' (%S+) (%S+) (%S+) (%S+)') do
    table.insert(found[3], {dimension, tonumber(rate), tonumber(burst), tonumber(estimate)})
  end
  parsed[text] = found
  return found
end

-- The rate of a bucket: {dimension, refill a ms, burst}; nothing where no limit has it any more.
local function rate_of(field)
  local name, dimension = string.match(field, '^(%S+) (%S+)$')
  local text = name and (redis.call('HGET', prefix .. 'limits', name) or pattern_of(name))
  for _, rate in ipairs(text and (parsed[text] or parse(text))[3] or {}) do
    if rate[1] == dimension then return rate end
  end
end

-- False when Redis is not what its scheduler left: flushed, made anew, or rolled back to what it was before.
local function ours(generation, seen)
  local known = redis.call('HMGET', KEYS[1], 'generation', 'ops')
  if not known[1] then return false end
  local ops = redis.call('HINCRBY', KEYS[1], 'ops', 1)
  return known[1] == generation and ops > seen and ops
end

-- Proposes items to lease: the lowest ranks of each stage that no limit holds back, moved to its lease set.
-- KEYS  meta (shared.lua names the others)
-- ARGV  JSON: generation, seen (ops), now, expiry (ms), most, and stages, oldest first, each
--       [name, epoch, most leases it may hold, owner, weight, priority, {dimension: mean use}]
-- Answers false when Redis is not ours; else JSON: ops, next (ms when a key is worth a look again), again (there is more
-- to look at now) and stages: name -> items (`seq lane` in order of rank, a line each), ranks (where they are not the
-- seqs), left (ready still), waiting (lane -> parked, where that changed), uses; or false: not open under this epoch.
-- Who is next, item by item: the owner with the fewest leases per weight; of its stages the highest priority, then the
-- run with the fewest leases, then the oldest. What a limit holds back waits apart, under the key that does.
local ask = cjson.decode(ARGV[1])
local ops = ours(ask.generation, ask.seen)
if not ops then return false end
local now, left, open, expiry = ask.now, ask.most, 0, string.format('%d', ask.expiry)
local meta = redis.call('HMGET', KEYS[1], 'since', 'valves')
local since, valves = tonumber(meta[1]) or now, (tonumber(meta[2]) or 0) > 0
local NEAR = 1e-6  -- levels are sums of fractions
local looks = left * 4 + 2000  -- of items at most: one call must not look at everything that limits hold back

---- limits: each key's state is read once and written back once
-- state: name, held, free (room for leases, as far as concurrency and closures say), taken (in this call), rates (nil:
-- none), concurrency, closed
local states = {}

local function free_of(state)
  if state.closed < 0 or state.closed > now then return 0 end
  return state.concurrency and state.concurrency - state.held or math.huge
end

-- Reads the states of keys that are new to this call.
local function load(names)
  if #names == 0 then return end
  local fields, metered = {}, {}
  for first = 1, #names, CHUNK do
    local last = math.min(first + CHUNK - 1, #names)
    local held = redis.call('HMGET', prefix .. 'slots', unpack(names, first, last))
    local texts = redis.call('HMGET', prefix .. 'limits', unpack(names, first, last))
    for i = first, last do
      local state, text = states[names[i]], texts[i - first + 1] or pattern_of(names[i])
      state.held, state.closed, state.taken = tonumber(held[i - first + 1] or 0), 0, 0
      if text then
        local found = parsed[text] or parse(text)
        state.concurrency, state.closed = found[1], found[2]
        if #found[3] > 0 then
          state.rates, metered[#metered + 1] = {}, state
          for j, rate in ipairs(found[3]) do
            local field = names[i] .. ' ' .. rate[1]
            state.rates[j] = {dimension = rate[1], rate = rate[2], burst = rate[3], estimate = rate[4], field = field}
            fields[#fields + 1] = field
          end
        end
      end
      state.free = free_of(state)
    end
  end
  local levels = fetch('buckets', fields)
  for _, state in ipairs(metered) do
    for _, bucket in ipairs(state.rates) do
      local level, at = 0, since  -- empty when Redis was made anew
      if levels[bucket.field] then
        level, at = string.match(levels[bucket.field], '^(%S+) (%S+)$')
        level, at = tonumber(level), tonumber(at)
      end
      bucket.level = math.min(bucket.burst, level + math.max(now - at, 0) * bucket.rate)
    end
  end
end

-- The state of a key; `fresh` collects what `load` must read.
local function state_of(name, fresh)
  local state = states[name]
  if not state then
    state = {name = name}
    states[name] = state
    fresh[#fresh + 1] = name
  end
  return state
end

-- What an item of the stage takes of a dimension: what such items used, else the first estimate that was met.
local function amount(stage, bucket)
  local found = stage.uses[bucket.dimension]
  if not found then
    found = bucket.estimate
    stage.uses[bucket.dimension] = found
  end
  stage.metered = true
  return found
end

-- Takes from the buckets what items of the stage that was last counted took.
local function settle(state)
  local stage = state.stage
  if stage then
    for _, bucket in ipairs(state.rates) do bucket.level = bucket.level - state.counted_items * amount(stage, bucket) end
    state.stage = nil
  end
end

-- Begins to count items of a stage: how many more the buckets allow.
local function meter(stage, state)
  settle(state)
  local allowed = math.huge
  for _, bucket in ipairs(state.rates) do
    local wanted = amount(stage, bucket)
    local spare = bucket.level - math.min(wanted, bucket.burst) + NEAR
    if spare < 0 then
      allowed = 0
    elseif wanted > 0 then
      allowed = math.min(allowed, math.floor(spare / wanted) + 1)
    end
  end
  state.stage, state.allowed, state.counted_items = stage, allowed, 0
end

-- When a key is worth a look for this stage: nil: it has room now.
local function closed_until(stage, state)
  if state.closed < 0 then return math.huge end
  if state.closed > now then return state.closed end
  if state.free <= 0 then return math.huge end
  local time = nil
  settle(state)
  for _, bucket in ipairs(state.rates or {}) do
    local lacking = math.min(amount(stage, bucket), bucket.burst) - bucket.level
    if lacking > NEAR then
      time = math.max(time or 0, bucket.rate > 0 and now + math.ceil(lacking / bucket.rate - NEAR) or math.huge)
    end
  end
  return time
end

local function room_of(stage, state, most)
  if closed_until(stage, state) then return 0 end
  local room = math.min(most, state.free)
  for _, bucket in ipairs(state.rates or {}) do
    room = math.min(room, math.max(math.floor(bucket.level / math.max(amount(stage, bucket), 1e-9)), 1))
  end
  return room
end

---- parking
local function add_waiting(stage, lane, by)
  stage.waiting[lane] = (stage.waiting[lane] or 0) + by
end

-- What a blocked key has room for goes back among the ready, lowest ranks first.
local function unpark(stage)
  stage.blocked = redis.call('ZCARD', prefix .. 'blocked:' .. stage.name) > 0
  if not stage.blocked then return end
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'blocked:' .. stage.name, '-inf', now, 'LIMIT', 0, 500)
  local fresh = {}
  for _, name in ipairs(due) do state_of(name, fresh) end
  load(fresh)
  for _, name in ipairs(due) do
    local state = states[name]
    stage.touched[name] = state
    local most = room_of(stage, state, math.min(left, stage.room))
    if most > 0 then
      local popped = redis.call('ZPOPMIN', prefix .. 'parked:' .. stage.name .. ':' .. name, most)
      local back, members = {}, {}
      for i = 1, #popped, 2 do members[#members + 1] = popped[i] end
      -- What was told twice may have been leased meanwhile; nothing else that is ready is.
      local scores = leased(stage.name, members)
      for i = 1, #popped, 2 do
        if not scores[(i + 1) / 2] then
          back[#back + 1] = popped[i + 1]
          back[#back + 1] = popped[i]
        end
        add_waiting(stage, string.match(popped[i], ' (.*)$'), -1)
      end
      in_chunks('ZADD', prefix .. 'ready:' .. stage.name, back)
    end
  end
end

-- The lowest rank that a key holds back in a stage: nothing of a higher rank passes it, even where there is room.
local function head(stage, name)
  if stage.heads[name] == nil then
    local first = redis.call('ZRANGE', prefix .. 'parked:' .. stage.name .. ':' .. name, 0, 0, 'WITHSCORES')
    stage.heads[name] = tonumber(first[2]) or false
  end
  return stage.heads[name]
end

local function park(stage, state, member, rank, lane)
  local list = stage.parked[state.name]
  if not list then
    list = {}
    stage.parked[state.name] = list
  end
  list[#list + 1] = rank
  list[#list + 1] = member
  stage.touched[state.name] = state
  add_waiting(stage, lane, 1)
end

---- stages
local function activate(stage)
  stage.active = true
  local fed, epoch = redis.call('HGETALL', prefix .. 'fed:' .. stage.name), nil
  for i = 1, #fed, 2 do
    if fed[i] == 'epoch' then epoch = fed[i + 1] end
    if fed[i] == 'moved' then stage.ranked = true end
  end
  if epoch ~= stage.epoch then
    stage.closed, stage.room = true, 0
    return
  end
  stage.room = stage.most - redis.call('ZCARD', prefix .. 'leases:' .. stage.name)
  if stage.room > 0 then
    if valves then
      -- The valve of the whole stage; its leases are the stage's own.
      local fresh = {}
      stage.valve = state_of('stage:' .. stage.name, fresh)
      load(fresh)
      stage.valve.held = stage.most - stage.room
      stage.valve.free = free_of(stage.valve)
    end
    unpark(stage)
  end
  stage.horizon = horizon_of(stage.name, fed, stage.waiting)
end

-- The states that hold an item of a lane back, in the stage's own list of lanes.
local function lane_of(stage, name, fresh)
  local lane = {name = name}
  for key in string.gmatch(name, '%S+') do lane[#lane + 1] = state_of(key, fresh) end
  if valves then
    lane.valve = state_of('lane:' .. stage.name .. ':' .. name, fresh)
    lane[#lane + 1] = lane.valve
    lane[#lane + 1] = stage.valve
  end
  stage.lanes[name] = lane
  return lane
end

-- The valve of a lane: its leases are counted only when somebody asks.
local function count_lane(stage, lane)
  local valve = lane.valve
  if valve.concurrency and not valve.counted then
    valve.counted, valve.held = true, 0
    for _, member in ipairs(redis.call('ZRANGE', prefix .. 'leases:' .. stage.name, 0, -1)) do
      if string.match(member, ' (.*)$') == lane.name then valve.held = valve.held + 1 end
    end
    valve.free = free_of(valve)
  end
end

-- Reads more of what is ready; it is taken out when the call knows how much of it was used. False: there is no more.
local function read(stage, most)
  local members, ranks, at = stage.members, stage.ranks, #stage.members
  most = math.min(most, CHUNK, looks)
  if most <= 0 then return false end
  local found
  if stage.ranked then
    found = redis.call('ZRANGE', prefix .. 'ready:' .. stage.name, at, at + most - 1, 'WITHSCORES')
  else
    found = redis.call('ZRANGE', prefix .. 'ready:' .. stage.name, at, at + most - 1)
  end
  if #found == 0 then return false end
  local step, fresh, lanes, before = stage.ranked and 2 or 1, {}, {}, at
  for i = 1, #found, step do
    local seq, name = string.match(found[i], '^(%d+) (.*)$')
    at = at + 1
    members[at], stage.seqs[at] = found[i], tonumber(seq)
    ranks[at] = stage.ranked and tonumber(found[i + 1]) or stage.seqs[at]
    local lane = stage.lanes[name]
    if not lane then
      lane = lane_of(stage, name, fresh)
      lanes[#lanes + 1] = lane
    end
    stage.lane_at[at] = lane
  end
  looks = looks - (at - before)
  load(fresh)
  if valves then
    for _, lane in ipairs(lanes) do count_lane(stage, lane) end
  end
  return true
end

-- The state that holds an item back; nil: none.
local function holder(stage, lane, rank)
  if lane.held_by then return lane.held_by end
  for i = 1, #lane do
    local state = lane[i]
    if state.rates and state.stage ~= stage then meter(stage, state) end
    if state.free <= 0 or (state.rates and state.allowed <= 0) then
      lane.held_by = state  -- nothing gets freer within a call
      return state
    end
  end
  if stage.blocked then
    for i = 1, #lane do
      local first = head(stage, lane[i].name)
      if first and first < rank then return lane[i] end
    end
  end
  return nil
end

-- Takes the stage's next item; false when it has none for now.
local function take(stage)
  if not stage.active then activate(stage) end
  if stage.room <= 0 then return false end
  while true do
    local at = stage.at + 1
    if not stage.members[at] and not read(stage, math.min(math.ceil(left / open), stage.room)) then return false end
    local rank, lane = stage.ranks[at], stage.lane_at[at]
    if rank > stage.horizon then return false end
    stage.at = at
    local state = holder(stage, lane, rank)
    if not state then
      for i = 1, #lane do
        local held = lane[i]
        held.free, held.taken = held.free - 1, held.taken + 1
        if held.rates then held.allowed, held.counted_items = held.allowed - 1, held.counted_items + 1 end
      end
      stage.room = stage.room - 1
      local member = stage.members[at]
      stage.items[#stage.items + 1] = member
      stage.taken[#stage.taken + 1] = expiry
      stage.taken[#stage.taken + 1] = member
      if rank ~= stage.seqs[at] then stage.moved[tostring(stage.seqs[at])] = rank end
      return true
    end
    park(stage, state, stage.members[at], rank, lane.name)
  end
end

---- who is next: heaps whose root alone changes
local function sift(heap, less)
  local i, count = 1, #heap
  while true do
    local child = 2 * i
    if child > count then return end
    if child < count and less(heap[child + 1], heap[child]) then child = child + 1 end
    if not less(heap[child], heap[i]) then return end
    heap[i], heap[child] = heap[child], heap[i]
    i = child
  end
end

local function drop_root(heap, less)
  heap[1] = heap[#heap]
  heap[#heap] = nil
  sift(heap, less)
end

local function stage_less(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  if a.run.held ~= b.run.held then return a.run.held < b.run.held end
  return a.age < b.age
end

local function owner_less(a, b)
  local one, other = a.held / a.weight, b.held / b.weight
  if one ~= other then return one < other end
  return a.age < b.age
end

local stages, owners, by_owner, runs, shares = {}, {}, {}, {}, {}
for age, each in ipairs(ask.stages) do
  local stage = {
    name = each[1], epoch = each[2], most = each[3], priority = each[6], uses = each[7], age = age, room = 0, at = 0,
    members = {}, seqs = {}, ranks = {}, lane_at = {}, lanes = {}, heads = {}, touched = {}, parked = {},
    waiting = {}, items = {}, taken = {}, moved = {}, horizon = math.huge,
  }
  stages[age] = stage
  local owner = by_owner[each[4]]
  if not owner then
    owner = {share = 'owner:' .. each[4], weight = each[5], age = age, stages = {}}
    by_owner[each[4]], owners[#owners + 1] = owner, owner
    shares[#shares + 1] = owner.share
  end
  local run = 'run:' .. run_of(stage.name)
  if not runs[run] then
    runs[run] = {share = run}
    shares[#shares + 1] = run
  end
  stage.run = runs[run]
  owner.stages[#owner.stages + 1] = stage
end
local held = fetch('shares', shares)
for name, run in pairs(runs) do run.held = tonumber(held[name]) or 0 end
for _, owner in ipairs(owners) do
  owner.held = tonumber(held[owner.share]) or 0
  table.sort(owner.stages, stage_less)
end
table.sort(owners, owner_less)

open = #stages
while left > 0 and #owners > 0 do
  local owner = owners[1]
  local stage = owner.stages[1]
  if take(stage) then
    left = left - 1
    stage.run.held, stage.run.changed = stage.run.held + 1, true
    owner.held, owner.changed = owner.held + 1, true
    if #owner.stages > 1 then sift(owner.stages, stage_less) end
  else
    open = open - 1
    drop_root(owner.stages, stage_less)
    if #owner.stages == 0 then drop_root(owners, owner_less) end
  end
  if #owners > 1 then sift(owners, owner_less) end
end

---- what became of it
local answer = {ops = ops, again = looks <= 0 and left > 0, stages = {}}
local function look_at(time)
  if time < math.huge then answer.next = math.min(answer.next or time, time) end
end

-- Makes the counts of parked items what they are: rare, and exact.
local function recount(stage)
  local counts = {}
  for _, name in ipairs(redis.call('ZRANGE', prefix .. 'blocked:' .. stage.name, 0, -1)) do
    for _, member in ipairs(redis.call('ZRANGE', prefix .. 'parked:' .. stage.name .. ':' .. name, 0, -1)) do
      local lane = string.match(member, ' (.*)$')
      counts[lane] = (counts[lane] or 0) + 1
    end
  end
  for lane, by in pairs(stage.waiting) do counts[lane] = (counts[lane] or 0) - by end
  redis.call('DEL', prefix .. 'waiting:' .. stage.name)
  for lane, count in pairs(counts) do redis.call('HSET', prefix .. 'waiting:' .. stage.name, lane, count) end
end

local function finish(stage)
  if stage.at > 0 then redis.call('ZREMRANGEBYRANK', prefix .. 'ready:' .. stage.name, 0, stage.at - 1) end
  in_chunks('ZADD', prefix .. 'leases:' .. stage.name, stage.taken)
  local known = false  -- something that was told twice was parked already
  for name, list in pairs(stage.parked) do
    local parking = prefix .. 'parked:' .. stage.name .. ':' .. name
    local before = redis.call('ZCARD', parking)
    in_chunks('ZADD', parking, list)
    known = known or redis.call('ZCARD', parking) - before < #list / 2
  end
  local blocked = prefix .. 'blocked:' .. stage.name
  for name, state in pairs(stage.touched) do
    if redis.call('EXISTS', prefix .. 'parked:' .. stage.name .. ':' .. name) == 0 then
      redis.call('ZREM', blocked, name)
    else
      local time = closed_until(stage, state) or 0
      if redis.call('ZADD', blocked, time == math.huge and '+inf' or time, name) == 1 then
        local waiting = redis.call('HGET', prefix .. 'parkers', name)
        if not waiting then
          redis.call('HSET', prefix .. 'parkers', name, stage.name)
        elseif not string.find(' ' .. waiting .. ' ', ' ' .. stage.name .. ' ', 1, true) then
          redis.call('HSET', prefix .. 'parkers', name, waiting .. ' ' .. stage.name)
        end
      end
      if time == 0 and left > 0 and stage.room > 0 then answer.again = true end
    end
  end
  local first = {}
  if stage.blocked or next(stage.parked) then
    first = redis.call('ZRANGEBYSCORE', blocked, '(' .. now, '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
  if first[2] then look_at(tonumber(first[2])) end
  if known then recount(stage) end
  local told, changed = {}, false
  for lane, by in pairs(stage.waiting) do
    if by ~= 0 then
      local count = redis.call('HINCRBY', prefix .. 'waiting:' .. stage.name, lane, by)
      told[lane], changed = math.max(count, 0), true
      if count <= 0 then redis.call('HDEL', prefix .. 'waiting:' .. stage.name, lane) end
    end
  end
  answer.stages[stage.name] = {
    items = table.concat(stage.items, '\n'), ranks = next(stage.moved) and stage.moved or nil,
    waiting = changed and told or nil, left = ready_of(stage.name, stage.horizon),
    uses = stage.metered and stage.uses or nil,
  }
end

for _, stage in ipairs(stages) do
  if stage.closed then
    answer.stages[stage.name] = false
  elseif stage.active and stage.most > 0 then
    finish(stage)
  end
end
local counts, levels = {}, {}
for name, state in pairs(states) do
  if state.taken and state.taken > 0 then
    if not (valves and (string.sub(name, 1, 5) == 'lane:' or string.sub(name, 1, 6) == 'stage:')) then
      counts[name] = state.held + state.taken
    end
    settle(state)
    for _, bucket in ipairs(state.rates or {}) do
      levels[#levels + 1] = bucket.field
      levels[#levels + 1] = string.format('%.17g %d', bucket.level, now)
    end
  end
end
store_counts('slots', counts)
in_chunks('HSET', prefix .. 'buckets', levels)
local taken = {}
for name, run in pairs(runs) do if run.changed then taken[name] = run.held end end
for _, owner in ipairs(owners) do if owner.changed then taken[owner.share] = owner.held end end
for _, owner in pairs(by_owner) do if owner.changed then taken[owner.share] = owner.held end end
store_counts('shares', taken)
return cjson.encode(answer)

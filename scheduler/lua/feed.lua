-- Opens, feeds and closes the ready items of one stage.
-- KEYS  meta (shared.lua names the others)
-- ARGV  JSON: generation, seen (ops), stage, epoch, what, and
--   open   owner, cursors {field: how far}, members {lane: seqs}, moved {lane: {seq, rank, ...}}: begins anew with these,
--          unless this epoch is open already: another scheduler has done it
--   feed   field, from, to, without, members, moved: adds what was read of the plan, if nobody has read it before, and
--          if what was left out (`without`: fields of lanes) is read apart here, too
--   split  field: a lane is read apart from where the plan's cursor stands now, if it is not yet
--   add    members, moved: adds what is startable again
--   drop   closes what was opened under this epoch or an earlier one
-- Answers false when Redis is not ours, else JSON: ops, done, fed (field -> how far), left (ready), waiting (lane ->
-- parked).
local ask = cjson.decode(ARGV[1])
local ops = ours(ask.generation, ask.seen)
if not ops then return false end
local stage, fed = ask.stage, prefix .. 'fed:' .. ask.stage
local epoch = redis.call('HGET', fed, 'epoch')

local function wipe()
  local keys = {fed, prefix .. 'ready:' .. stage, prefix .. 'waiting:' .. stage, prefix .. 'blocked:' .. stage}
  for _, name in ipairs(redis.call('ZRANGE', keys[4], 0, -1)) do
    redis.call('DEL', prefix .. 'parked:' .. stage .. ':' .. name)
  end
  redis.call('DEL', unpack(keys))
end

local function add()
  for lane, seqs in pairs(ask.members or {}) do
    local members, list, tail = {}, {}, ' ' .. lane
    for i, seq in ipairs(seqs) do members[i] = string.format('%d', seq) .. tail end
    for i, score in ipairs(leased(stage, members)) do
      if not score then
        list[#list + 1] = seqs[i]
        list[#list + 1] = members[i]
      end
    end
    -- An operator may have moved it since the plan was read: what is there keeps its rank.
    for first = 1, #list, CHUNK do
      redis.call('ZADD', prefix .. 'ready:' .. stage, 'NX', unpack(list, first, math.min(first + CHUNK - 1, #list)))
    end
  end
  if next(ask.moved) then redis.call('HSET', fed, 'moved', 1) end
  for lane, found in pairs(ask.moved) do
    for i = 1, #found, 2 do
      local member = string.format('%d', found[i]) .. ' ' .. lane
      if not redis.call('ZSCORE', prefix .. 'leases:' .. stage, member) then
        redis.call('ZADD', prefix .. 'ready:' .. stage, found[i + 1], member)
      end
    end
  end
end

local function read_apart(fields)
  for _, known in ipairs(#fields > 0 and redis.call('HMGET', fed, unpack(fields)) or {}) do
    if not known then return false end
  end
  return true
end

local done = false
if ask.what == 'open' then
  if not epoch or tonumber(epoch) < ask.epoch then
    wipe()
    redis.call('HSET', fed, 'epoch', string.format('%d', ask.epoch))
    for field, cursor in pairs(ask.cursors) do redis.call('HSET', fed, field, string.format('%d', cursor)) end
    redis.call('HSET', prefix .. 'owners', run_of(stage), ask.owner)
    add()
    done = true
  end
elseif ask.what == 'drop' then
  if epoch and tonumber(epoch) <= ask.epoch then
    wipe()
    done = true
  end
elseif epoch and tonumber(epoch) == ask.epoch then
  if ask.what == 'add' then
    add()
    done = true
  elseif ask.what == 'split' then
    done = redis.call('HSETNX', fed, ask.field, redis.call('HGET', fed, 'main')) == 1
  elseif tonumber(redis.call('HGET', fed, ask.field)) == ask.from and read_apart(ask.without) then
    redis.call('HSET', fed, ask.field, string.format('%d', ask.to))
    add()
    done = true
  end
end
local all = redis.call('HGETALL', fed)
local answer = {ops = ops, done = done, fed = {}, waiting = {}, left = ready_of(stage, horizon_of(stage, all, {}))}
for i = 1, #all, 2 do
  if all[i] ~= 'moved' then answer.fed[all[i]] = tonumber(all[i + 1]) end
end
all = redis.call('HGETALL', prefix .. 'waiting:' .. stage)
for i = 1, #all, 2 do answer.waiting[all[i]] = tonumber(all[i + 1]) end
return cjson.encode(answer)

-- Carries out what committed transactions mean for Redis.
-- KEYS  for each action, the set that it changes: leases (seq by expiry in ms) or ready (seq by rank)
-- ARGV  for each action: its name, the expiry in ms, its seqs as ranges "first-last,first-last,..."
--   forget  takes seqs out of a lease set
--   ready   puts seqs into a ready set at their rank
--   renew   puts seqs into a lease set until the expiry
-- The generation is not asked: after a loss all of this is rebuilt, and a member too many is refused by SQL.
local CHUNK = 1000

local function flush(action, key, members)
  if #members == 0 then return end
  if action == 'forget' then
    redis.call('ZREM', key, unpack(members))
  else
    redis.call('ZADD', key, unpack(members))
  end
end

for i = 1, #KEYS do
  local action, expiry, ranges = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local members = {}
  for first, last in string.gmatch(ranges, '(%d+)-(%d+)') do
    for seq = tonumber(first), tonumber(last) do
      local name = string.format('%d', seq)
      if action == 'ready' then
        members[#members + 1] = name
      elseif action == 'renew' then
        members[#members + 1] = expiry
      end
      members[#members + 1] = name
      if #members >= CHUNK then
        flush(action, KEYS[i], members)
        members = {}
      end
    end
  end
  flush(action, KEYS[i], members)
end
return true

-- Proposes items to lease: pops the lowest ranks of each stage's ready set into its lease set, within concurrency.
-- KEYS  generation; then for each stage, in order of age: ready (seq by rank), leases (seq by expiry in ms)
-- ARGV  generation, expiry in ms, most items in all; then for each stage: its concurrency plus the leases being reported
-- Answers false when the generation is not ours (Redis was lost), else for each stage how many are ready still, and
-- then the seqs proposed.
-- The stage with the fewest leases held is served first; age decides between equals.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local expiry, left = ARGV[2], tonumber(ARGV[3])
local count = (#KEYS - 1) / 2
local order, held, answer = {}, {}, {}
for i = 1, count do
  order[i] = i
  held[i] = redis.call('ZCARD', KEYS[2 * i + 1])
  answer[i] = {}
end
table.sort(order, function(a, b)
  if held[a] ~= held[b] then return held[a] < held[b] end
  return a < b
end)
for _, i in ipairs(order) do
  local take = math.min(left, tonumber(ARGV[3 + i]) - held[i])
  if take > 0 then
    local popped = redis.call('ZPOPMIN', KEYS[2 * i], take)
    local leases = {}
    for j = 1, #popped, 2 do
      answer[i][#answer[i] + 1] = popped[j]
      leases[#leases + 1] = expiry
      leases[#leases + 1] = popped[j]
    end
    for j = 1, #leases, 1000 do
      redis.call('ZADD', KEYS[2 * i + 1], unpack(leases, j, math.min(j + 999, #leases)))
    end
    left = left - #answer[i]
  end
  table.insert(answer[i], 1, redis.call('ZCARD', KEYS[2 * i]))
end
return answer

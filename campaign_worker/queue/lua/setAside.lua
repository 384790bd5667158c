--[[
  Puts off the jobs at the head of a queue that belong to one group, many in one step: as a worker would
  that took each, looked at it and moved it to delayed, without an attempt. Others keep their places.
  Writes no event and no `delay` for each job: that would take several times as long.

    KEYS[1] wait  KEYS[2] delayed  KEYS[3] marker  KEYS[4] list of the group's jobs that were put off
    ARGV[1] key prefix of the queue   ARGV[2] how many jobs to look at, from the oldest
    ARGV[3] earliest due time, ms     ARGV[4] latest due time, ms
    ARGV[5] value that the group has  ARGV[6] how many names of jobs follow
    ARGV[7...] those names, then the fields of a job's data that may hold the value
  Returns {looked at, put off}
]]
local rcall = redis.call
local LARGEST_DATA = 4096
local names, fields = {}, {}
for at = 7, 6 + ARGV[6] do
  names[ARGV[at]] = true
end
for at = 7 + ARGV[6], #ARGV do
  fields[#fields + 1] = ARGV[at]
end

-- As JSON.stringify writes it where the field comes first: nothing needs to be parsed then.
local beginnings = {}
for at, field in ipairs(fields) do
  beginnings[at] = '{"' .. field .. '":' .. ARGV[5] .. ","
end

local function belongs(id)
  local job = rcall("HMGET", ARGV[1] .. id, "name", "data")
  if not job[1] or not job[2] or not names[job[1]] or #job[2] > LARGEST_DATA
      or not string.find(job[2], ARGV[5], 1, true) then
    return false
  end
  for _, beginning in ipairs(beginnings) do
    if string.sub(job[2], 1, #beginning) == beginning then
      return true
    end
  end
  local read, data = pcall(cjson.decode, job[2])
  if not read or type(data) ~= "table" then
    return false
  end
  for _, field in ipairs(fields) do
    local value = data[field]
    if value ~= nil then
      return type(value) == "number" and value == tonumber(ARGV[5]) or value == ARGV[5]
    end
  end
  return false
end

local ids = rcall("LRANGE", KEYS[1], -tonumber(ARGV[2]), -1)
local kept, moved, scored = {}, {}, {}
local first, last = tonumber(ARGV[3]), tonumber(ARGV[4])
for at, id in ipairs(ids) do
  if belongs(id) then
    -- Spread evenly: they shall not all come back in the same moment.
    local due = math.floor(first + (last - first) * (#ids - at) / #ids)
    scored[#scored + 1] = due * 0x1000 + at % 0x1000
    scored[#scored + 1] = id
    moved[#moved + 1] = id
  else
    kept[#kept + 1] = id
  end
end
if #moved == 0 then
  return { #ids, 0 }
end
rcall("LTRIM", KEYS[1], 0, -(#ids + 1))
if #kept > 0 then
  rcall("RPUSH", KEYS[1], unpack(kept))
end
rcall("ZADD", KEYS[2], unpack(scored))
-- For those who will want them back at once; the jobs come back by themselves long before it expires.
rcall("RPUSH", KEYS[4], unpack(moved))
-- They come back in at most twice the least delay, and are noted again when they are put off again.
rcall("LTRIM", KEYS[4], -2 * rcall("ZCARD", KEYS[2]), -1)
rcall("EXPIRE", KEYS[4], 3600)
local next_due = rcall("ZRANGE", KEYS[2], 0, 0, "WITHSCORES")
rcall("ZADD", KEYS[3], math.floor(tonumber(next_due[2]) / 0x1000), "1")
return { #ids, #moved }

--[[
  The next place in a stream of sends that all replicas share (generic cell rate algorithm, no burst).

    KEYS[1] time of the first free place, microseconds of Redis' clock
    ARGV[1] microseconds between two places
    ARGV[2] microseconds: a place that is further away than this is told, but not taken
  Returns the microseconds until the place comes.
]]
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local place = tonumber(redis.call("GET", KEYS[1]) or "0")
-- Nobody takes a place further away than that: the clock was set back since.
local furthest = now + tonumber(ARGV[1]) + tonumber(ARGV[2])
if place < now or place > furthest then
  place = now
end
local wait = place - now
if wait <= tonumber(ARGV[2]) then
  local following = place + tonumber(ARGV[1])
  local lifetime = math.ceil((following - now) / 1000) + 1000
  redis.call("SET", KEYS[1], string.format("%.0f", following), "PX", lifetime)
end
return wait

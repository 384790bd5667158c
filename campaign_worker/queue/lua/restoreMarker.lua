--[[
  Puts back the markers that wake idle workers, after one was popped by a worker that cannot use it, and
  after a prioritized job was handed back (the stock script marks only plain ones).

    KEYS[1] wait  KEYS[2] prioritized  KEYS[3] meta  KEYS[4] active  KEYS[5] delayed  KEYS[6] marker
  Returns 1 if a marker says that a job is available, else 0.
]]
local meta = redis.call("HMGET", KEYS[3], "paused", "concurrency")
if meta[1] then
  return 0
end
local due = redis.call("ZRANGE", KEYS[5], 0, 0, "WITHSCORES")
if due[2] then
  redis.call("ZADD", KEYS[6], tonumber(due[2]) / 0x1000, "1")
end
if meta[2] and redis.call("LLEN", KEYS[4]) >= tonumber(meta[2]) then
  return 0
end
if redis.call("LLEN", KEYS[1]) + redis.call("ZCARD", KEYS[2]) > 0 then
  redis.call("ZADD", KEYS[6], 0, "0")
  return 1
end
return 0

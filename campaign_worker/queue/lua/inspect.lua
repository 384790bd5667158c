--[[
  What has become of a job, for a worker that does not know whether its own write was executed.

    KEYS[1] job hash  KEYS[2] job lock  KEYS[3] active
    ARGV[1] job id
  Returns {exists 0/1, token of the lock or "", in active 0/1, finishedOn or "", attempts made}
]]
local fields = redis.call("HMGET", KEYS[1], "finishedOn", "atm", "attemptsMade")
return {
  redis.call("EXISTS", KEYS[1]),
  redis.call("GET", KEYS[2]) or "",
  redis.call("LPOS", KEYS[3], ARGV[1]) and 1 or 0,
  fields[1] or "",
  (tonumber(fields[2]) or 0) + (tonumber(fields[3]) or 0),
}

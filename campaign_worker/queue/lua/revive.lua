--[[
  Makes sure that a job will run, without ever running it twice at a time.

    KEYS[1] job hash      KEYS[2] job lock   KEYS[3] wait     KEYS[4] paused    KEYS[5] prioritized
    KEYS[6] delayed       KEYS[7] active     KEYS[8] completed KEYS[9] failed   KEYS[10] waiting-children
    KEYS[11] meta         KEYS[12] pc        KEYS[13] marker  KEYS[14] events
    ARGV[1] job id   ARGV[2] "1" to reset the attempts made and started
  Returns "absent"     there is no such job: the caller adds it
          "reprocessed" it had finished and waits again
          "requeued"   it was in no list (lost) and waits again
          "untouched"  it is on its way already
]]
local rcall = redis.call
local id = ARGV[1]

if rcall("EXISTS", KEYS[1]) == 0 then
  return "absent"
end

local previous
if rcall("ZREM", KEYS[8], id) == 1 then
  previous = "completed"
elseif rcall("ZREM", KEYS[9], id) == 1 then
  previous = "failed"
elseif rcall("EXISTS", KEYS[2]) == 1 or rcall("HEXISTS", KEYS[1], "finishedOn") == 1
    or rcall("ZSCORE", KEYS[6], id) or rcall("ZSCORE", KEYS[5], id) or rcall("ZSCORE", KEYS[10], id)
    or rcall("LPOS", KEYS[7], id) or rcall("LPOS", KEYS[3], id) or rcall("LPOS", KEYS[4], id) then
  return "untouched"
end

if previous then
  rcall("HDEL", KEYS[1], "finishedOn", "processedOn", "returnvalue", "failedReason", "defa")
end
if ARGV[2] == "1" then
  rcall("HDEL", KEYS[1], "atm", "ats", "attemptsMade", "stc")
end

local meta = rcall("HMGET", KEYS[11], "paused", "version", "concurrency", "opts.maxLenEvents")
local maxed = meta[3] and rcall("LLEN", KEYS[7]) >= tonumber(meta[3])
local priority = tonumber(rcall("HGET", KEYS[1], "priority")) or 0
if priority > 0 then
  local count = rcall("INCR", KEYS[12])
  rcall("ZADD", KEYS[5], priority * 0x100000000 + count % 0x100000000, id)
else
  -- bullmq 4 and 5 resume by renaming the paused list over wait: what lies in wait then is lost.
  local major = tonumber(string.match(meta[2] or "", "^bullmq[^:]*:(%d+)") or 0)
  rcall("LPUSH", (meta[1] and major < 6) and KEYS[4] or KEYS[3], id)
end
if not meta[1] and not maxed then
  rcall("ZADD", KEYS[13], 0, "0")
end
local event = { "MAXLEN", "~", meta[4] or 10000, "*", "event", "waiting", "jobId", id }
if previous then
  event[#event + 1] = "prev"
  event[#event + 1] = previous
end
rcall("XADD", KEYS[14], unpack(event))
return previous and "reprocessed" or "requeued"

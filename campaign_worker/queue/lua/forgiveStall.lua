--[[
  Takes back the sweep's word that a job has stalled too often; any other deferred failure stays.

    KEYS[1] job hash
    ARGV[1] the sweep's word
  Returns 1 if it was there, else 0.
]]
if redis.call("HGET", KEYS[1], "defa") == ARGV[1] then
  return redis.call("HDEL", KEYS[1], "defa")
end
return 0

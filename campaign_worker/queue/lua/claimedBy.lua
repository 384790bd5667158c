--[[
  Finds the active jobs whose lock holds a token of one worker: what it owns, whether it knows or not.

    KEYS[1] active
    ARGV[1] key prefix of the queue   ARGV[2] what the worker's tokens begin with
  Returns {id, token, id, token, ...}
]]
local found = {}
for _, id in ipairs(redis.call("LRANGE", KEYS[1], 0, -1)) do
  local token = redis.call("GET", ARGV[1] .. id .. ":lock")
  if token and string.sub(token, 1, #ARGV[2]) == ARGV[2] then
    found[#found + 1] = id
    found[#found + 1] = token
  end
end
return found

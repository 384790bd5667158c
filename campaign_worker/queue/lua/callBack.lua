--[[
  Forgets jobs of a group that have been called back: only those that are still the first of the list.

    KEYS[1] list of the group's jobs that were put off
    ARGV[...] ids, in the order of the list
  Returns how many were forgotten
]]
for at, id in ipairs(ARGV) do
  if redis.call("LINDEX", KEYS[1], 0) ~= id then
    return at - 1
  end
  redis.call("LPOP", KEYS[1])
end
return #ARGV

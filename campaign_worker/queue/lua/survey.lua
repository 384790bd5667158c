--[[
  Where jobs stand, as far as a look costs no walk along a list.

    KEYS[1] prioritized  KEYS[2] delayed  KEYS[3] completed  KEYS[4] failed  KEYS[5] waiting-children
    ARGV[1] key prefix of the queue   ARGV[2...] job ids, then the timestamp of each, or "" for any
  Returns for each job a digit: 0 absent, 1 finished, 2 delayed, 3 under way, 4 in a list or lost.
  A job with another timestamp counts as absent: in a queue that was emptied ids begin anew.
]]
local rcall = redis.call
local found = {}
local count = (#ARGV - 1) / 2
for at = 2, 1 + count do
  local id, added = ARGV[at], tonumber(ARGV[at + count])
  local standing = "4"
  if rcall("EXISTS", ARGV[1] .. id) == 0
      or added and tonumber(rcall("HGET", ARGV[1] .. id, "timestamp") or "") ~= added then
    standing = "0"
  elseif rcall("ZSCORE", KEYS[3], id) or rcall("ZSCORE", KEYS[4], id) then
    standing = "1"
  elseif rcall("ZSCORE", KEYS[2], id) then
    standing = "2"
  elseif rcall("EXISTS", ARGV[1] .. id .. ":lock") == 1 or rcall("ZSCORE", KEYS[1], id)
      or rcall("ZSCORE", KEYS[5], id) then
    standing = "3"
  end
  found[at - 1] = standing
end
return table.concat(found)

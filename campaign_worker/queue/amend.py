"""The one place where scripts of the bullmq package are changed: pushes to a paused queue, locks.

A lock is prolonged by PEXPIRE: a full Redis refuses SET, and whoever works would lose its job.
bullmq 4 and 5 pause a queue by renaming `wait` to `paused`, and resume it by renaming back, over
whatever the 6.x scripts pushed to `wait` meanwhile: those jobs are in no list any more. Amended,
scripts push to `paused` then. 6.x resumes by merging `paused` into `wait`: safe with any version.
"""

from __future__ import annotations

from campaign_worker.errors import ScriptsChanged

_TARGET = """
local function pausedAwareTarget(targetKey)
  local base = string.match(targetKey, "^(.*:)wait$")
  if base then
    local meta = rcall("HMGET", base .. "meta", "paused", "version")
    if meta[1] then
      local major = tonumber(string.match(meta[2] or "", "^bullmq[^:]*:(%d+)") or 0)
      if major < 6 then
        return base .. "paused"
      end
    end
  end
  return targetKey
end
"""
_PUSH_HEAD = (
    "local function addJobInTargetList(targetKey, markerKey, pushCmd, isPausedOrMaxed, jobId)\n"
)
_PUSH = _PUSH_HEAD + "  rcall(pushCmd, targetKey, jobId)\n"
_AMENDED_PUSH = (
    _TARGET.lstrip() + _PUSH_HEAD + "  rcall(pushCmd, pausedAwareTarget(targetKey), jobId)\n"
)
_PROMOTE = 'rcall("LPUSH", targetKey, jobId)\n'
_AMENDED_PROMOTE = 'rcall("LPUSH", pausedAwareTarget(targetKey), jobId)\n'
_PROLONG = {
    "extendLocks": (
        'rcall("SET", lockKey, token, "PX", lockDuration)',
        'rcall("PEXPIRE", lockKey, lockDuration)',
    ),
    "extendLock": (
        'if rcall("SET", KEYS[1], ARGV[1], "PX", ARGV[2]) then',
        'if rcall("PEXPIRE", KEYS[1], ARGV[2]) == 1 then',
    ),
}


def amend(name: str, text: str) -> str:
    """Return the script as this worker runs it; unchanged when it neither pushes nor prolongs.

    Raises ScriptsChanged when the places to amend are not where they are known to be.
    """
    if name in _PROLONG:
        return _prolonging(name, text)
    pushes, promotes = text.count(_PUSH), text.count(_PROMOTE)
    if not pushes and not promotes and "addJobInTargetList" not in text:
        return text
    known = pushes == 1 and promotes <= 1
    if not known or (promotes and text.index(_PROMOTE) < text.index(_PUSH)):
        raise ScriptsChanged(name, "other text around addJobInTargetList")
    return text.replace(_PUSH, _AMENDED_PUSH).replace(_PROMOTE, _AMENDED_PROMOTE)


def _prolonging(name: str, text: str) -> str:
    setting, expiring = _PROLONG[name]
    if text.count(setting) != 1:
        raise ScriptsChanged(name, "other text around SET of the lock")
    return text.replace(setting, expiring)

"""The Lua scripts: bullmq's own, checked by hash and amended, and ours beside them (lua/).

The package's scripts are the protocol. A script that is not the one we know is an error at start.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from campaign_worker.errors import ScriptsChanged
from campaign_worker.queue.amend import amend

#: Script name: file in bullmq/commands, SHA-256 of its text in bullmq 3.4.4.
UPSTREAM = {
    "moveToActive": (
        "moveToActive-11.lua",
        "7d35069db0b831af1bd1b2d5eb8d524e86fc7d3280b8c684a96b6614bad7d79a",
    ),
    "moveToFinished": (
        "moveToFinished-14.lua",
        "8e744ec5d65dbe9e7ffb6e39a96c0268bba65e4f0b1d04e2d2a42ccb71b45a6d",
    ),
    "moveToDelayed": (
        "moveToDelayed-11.lua",
        "1a7b9311ef92fd66416973c29fa8b2c909cec58d0bfcf3e5ab53bb07ea1664d7",
    ),
    "retryJob": (
        "retryJob-11.lua",
        "01f75f76043050807bce00f70908be7c15c7a29ce5f1f69d85a24d15f1099967",
    ),
    "moveStalledJobsToWait": (
        "moveStalledJobsToWait-9.lua",
        "dad86d89b50d825fb9ad1e95ef0ca9ae459ba16e837663fdbfc7be6de003debb",
    ),
    "moveJobFromActiveToWait": (
        "moveJobFromActiveToWait-9.lua",
        "ac9546cdd23294a20e0941aa531b52d83ce387e69a6a3c251af5ca0266bb0753",
    ),
    "extendLocks": (
        "extendLocks-1.lua",
        "14bb41f30eff2e7ff033bbcb31078fbc954a0bb16902129da8b68861c16baa5c",
    ),
    "extendLock": (
        "extendLock-2.lua",
        "aa54e3c99ff236ed151d764512c89aefc3c472061597ae2111dcb4514e555cc2",
    ),
    "updateProgress": (
        "updateProgress-3.lua",
        "62d0cce017bd552a5d7f4cd9856b4df2ce8351b45dace63705aa56bd96962edc",
    ),
    "updateData": (
        "updateData-1.lua",
        "33dc385c7749b1c525495725afb5894ee96295c8f61336273496aaed04ed6b2f",
    ),
    "addLog": (
        "addLog-2.lua",
        "2e2322a36a7705b991e6d607033e9a56c8e7775a1ad8b075b3c5588c43a79bc5",
    ),
    "addStandardJob": (
        "addStandardJob-9.lua",
        "6f61f23b5d27ad6ece20e5f8ec9b219eb26946dc2e42769a1dcb0b6867b48e85",
    ),
    "addDelayedJob": (
        "addDelayedJob-6.lua",
        "33d07c0c376c760fa7dea3f4c5905b9900ca6e96b6bcf994fa56b38d8afe7673",
    ),
    "promote": (
        "promote-9.lua",
        "06c562bf39eaaa21ac81963c16f5dce60d92e0a3966083e1f2389d55c3279459",
    ),
    "addPrioritizedJob": (
        "addPrioritizedJob-9.lua",
        "5c72b69e53d0687dd4995dfefca4b7d2922f384ff4caab263bed62e7c837d6a9",
    ),
    "updateJobScheduler": (
        "updateJobScheduler-12.lua",
        "8c71d358aa62ffb75111d46e5b7b45e44d5f00e3deede372609679930f4fdf13",
    ),
    "moveToWaitingChildren": (
        "moveToWaitingChildren-7.lua",
        "677d46787c3d50be28d37af321d2a44553619cf014ec53b5c57c377392fa47b4",
    ),
    "getDependencyCounts": (
        "getDependencyCounts-4.lua",
        "78fe561722265109f5833aa6dfd07f77b79dab66c7ed0ff560803b7a1db510f5",
    ),
    "removeUnprocessedChildren": (
        "removeUnprocessedChildren-2.lua",
        "eff3e7fb0084314febc13e1ccd3a8178b1875c7f1897c7da841eadaf0514bcdc",
    ),
    "removeChildDependency": (
        "removeChildDependency-1.lua",
        "9833f5b444f5e29d7e2ce3b5ad19b1bf68b295b27c9c1852dd46ad0131c3d3b5",
    ),
    "removeDeduplicationKey": (
        "removeDeduplicationKey-1.lua",
        "4c6c4fb746221521f3e5181577adf8d500d83217c44472e99f4fa9d98e6a06eb",
    ),
    "changeDelay": (
        "changeDelay-4.lua",
        "0a30d9823c49463b1ab53b1638e5a46f24ad2c4a37f0ec90749dcb4c77b37d4e",
    ),
    "changePriority": (
        "changePriority-7.lua",
        "84163c6004a885ae726ce7b7d68687cd1b2f0e65a62772bfd8efdb25017613ab",
    ),
    "reprocessJob": (
        "reprocessJob-9.lua",
        "4ea1093385a876769f604fb60e2db13d993b0a801caaea7c2262a36ef589fdc7",
    ),
    "removeJob": (
        "removeJob-2.lua",
        "f2acb16fda20ccac200abd5289a8910e48870d454c1577b19bd375ab809bb4b6",
    ),
    "getStateV2": (
        "getStateV2-8.lua",
        "7332cc020b73227ba05f6e43873260ad576c8b177492fb9ad32367b52b2aa701",
    ),
}
OWN = (
    *("restoreMarker", "claimedBy", "inspect", "revive", "survey"),
    *("setAside", "callBack", "forgiveStall"),
)
#: Too rare to be sent ahead on each new connection: their text goes with their first call.
RARE = frozenset(
    {"updateJobScheduler", "moveToWaitingChildren", "getDependencyCounts", "getStateV2"}
    | {"removeUnprocessedChildren", "removeChildDependency", "removeDeduplicationKey"}
    | {"changeDelay", "changePriority", "reprocessJob", "removeJob", "promote"}
    | {"addStandardJob", "addDelayedJob", "addPrioritizedJob", "revive", "survey"}
    | {"setAside", "callBack"}
)


@dataclass(frozen=True, slots=True)
class Script:
    """A script ready for EVALSHA: `sha` is the SHA-1 by which Redis knows `text`."""

    name: str
    text: str
    sha: str

    @classmethod
    def of(cls, name: str, text: str) -> Script:
        """Name a text; the hash is Redis' own choice of name, not a safeguard."""
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@functools.cache
def load_scripts() -> dict[str, Script]:
    """Read, check and amend all scripts once per process.

    Raises ScriptsChanged naming the first script that is missing or differs.
    """
    try:
        installed = metadata.distribution("bullmq")
    except metadata.PackageNotFoundError as error:
        raise ScriptsChanged("*", "package bullmq is missing") from error
    scripts = {}
    for name, (filename, expected) in UPSTREAM.items():
        # Through the metadata, because importing the package would import its Worker.
        path = Path(str(installed.locate_file(f"bullmq/commands/{filename}")))
        scripts[name] = Script.of(name, amend(name, _checked(path, expected, installed.version)))
    folder = resources.files("campaign_worker.queue") / "lua"
    for name in OWN:
        scripts[name] = Script.of(name, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    return scripts


def _checked(path: Path, expected: str, version: str) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScriptsChanged(path.stem, f"bullmq {version}, file missing") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise ScriptsChanged(path.stem, f"bullmq {version}, other text")
    return content.decode()

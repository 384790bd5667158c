"""What a row of the table in docs/conformance.md is: the rows themselves stand in feature_list.py.

A case of a feature is a scenario (scenarios.py), compared in Redis, or a test that is marked with
`@pytest.mark.feature(name)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

MAJORS = (4, 5, 6)
#: By the app's version, that of the Node Worker beside ours. One of 4.x counts attempts and tells
#: parents of failed children in another way than all scripts since: who replaces it changes that
#: with any newer worker, Node's or ours.
COMPARED_WITH = {4: 6, 5: 5, 6: 6}


@dataclasses.dataclass(frozen=True)
class Lacking:
    """Cases (a pattern) that only this version and later ones offer, and what they are about."""

    scenarios: str
    since: int
    what: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """`places`: patterns of where in Redis (/scenario/key/...). `why`: what differs, and why."""

    places: tuple[str, ...]
    why: str

    def explains(self, difference: str) -> bool:
        """Tell whether this is it, as test_redis_contents.differences says it."""
        place, _, _ = difference.partition(": ")
        return any(fnmatchcase(place, pattern) for pattern in self.places)


@dataclasses.dataclass(frozen=True)
class Feature:
    """`scenarios`: patterns of names. `since`: the first bullmq that offers it.

    `differs`: by version, how ours is unlike the Node Worker that it is compared with. `alike`:
    the version of the app plays no part, one proves all.
    """

    scenarios: tuple[str, ...] = ()
    since: int = 4
    differs: Mapping[int, Difference] = dataclasses.field(default_factory=dict)
    alike: bool = False
    lacking: tuple[Lacking, ...] = ()

    def owns(self, scenario: str) -> bool:
        """Tell whether a scenario is one of its cases."""
        return any(fnmatchcase(scenario, pattern) for pattern in self.scenarios)

    def offers(self, scenario: str, major: int) -> bool:
        """Tell whether this bullmq has what the scenario needs."""
        first = [one.since for one in self.lacking if fnmatchcase(scenario, one.scenarios)]
        return major >= max([self.since, *first])

    def cell(self, major: int) -> str:
        """Return what the table says of it once it has been proven."""
        if major < self.since:
            return "not offered"
        if self.alike and major != MAJORS[-1]:
            return "as 6.x"
        told = [f"different: {self.differs[major].why}" if major in self.differs else "same"]
        told += [f"{one.what} not offered" for one in self.lacking if major < one.since]
        return "; ".join(dict.fromkeys(told))

    def is_to_prove(self, major: int) -> bool:
        """Tell whether a test with this bullmq must have passed."""
        return major >= self.since and (not self.alike or major == MAJORS[-1])


def owner_of(scenario: str, features: Mapping[str, Feature]) -> str:
    """Return the one feature that a scenario proves; AssertionError when there is not just one."""
    owners = [name for name, feature in features.items() if feature.owns(scenario)]
    assert len(owners) == 1, f"{scenario} is a case of {owners}"
    return owners[0]


def offered(
    scenarios: Iterable[str], major: int, features: Mapping[str, Feature]
) -> dict[str, str]:
    """Return the scenarios that this bullmq can do, with the features that they prove."""
    owners = {scenario: owner_of(scenario, features) for scenario in scenarios}
    return {
        scenario: owner
        for scenario, owner in owners.items()
        if features[owner].offers(scenario, major)
    }

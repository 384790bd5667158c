"""What a run leaves in Redis, for apps of each bullmq: after a Node Worker, and after ours."""

from __future__ import annotations

import pytest
import redis.asyncio

from tests.conformance.conftest import StartNodeWorker
from tests.conformance.feature_list import FEATURES
from tests.conformance.features import offered
from tests.conformance.harness import App
from tests.conformance.scenarios import GROUPS
from tests.conformance.table import PROVES
from tests.conformance.test_redis_contents import Runs, differences

pytestmark = pytest.mark.node

#: A Worker of 4.x counts attempts and tells parents of failed children in another way than all
#: scripts since: who replaces one changes that with any newer worker, Node's or ours.
COMPARED_WITH = {4: 6, 5: 5, 6: 6}


@pytest.mark.parametrize("group", GROUPS)
async def test_our_worker_leaves_what_a_node_worker_leaves_of_the_jobs_of_each_version(
    request: pytest.FixtureRequest,
    group: str,
    app: App,
    node_worker: StartNodeWorker,
    redis_client: redis.asyncio.Redis,
    redis_url: str,
    prefix: str,
) -> None:
    major = app.node.major
    features = offered(GROUPS[group], major, FEATURES)
    if not features:
        return
    runs = Runs(app, redis_client, prefix, {name: GROUPS[group][name] for name in features})
    by_node = await runs.by_node(node_worker, major=COMPARED_WITH[major])
    by_us = await runs.by_us(redis_url)
    _check(differences(by_node, by_us), set(features.values()), major)
    for name, feature in features.items():
        request.node.user_properties.append((PROVES, [feature, major, name]))


def _check(different: list[str], features: set[str], major: int) -> None:
    """Check that all that is different is in the table, and that what is there is different."""
    known = [FEATURES[name].differs.get(major) for name in features]
    for difference in filter(None, known):
        assert any(difference.explains(line) for line in different), f"no longer: {difference.why}"
    unknown = [line for line in different if not any(one and one.explains(line) for one in known)]
    assert not unknown, "\n".join(unknown)

"""What a run leaves in Redis, for apps of each bullmq: after a Node Worker, and after ours."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import redis.asyncio

from tests.conformance.conftest import StartNodeWorker
from tests.conformance.feature_list import FEATURES
from tests.conformance.features import COMPARED_WITH, offered
from tests.conformance.harness import App
from tests.conformance.scenarios import GROUPS, SCENARIOS, Scenario
from tests.conformance.table import PROVES
from tests.conformance.test_redis_contents import Runs, differences

pytestmark = pytest.mark.node

#: Whether their next iteration is delayed hangs on how soon the next second begins.
OF_THE_SECOND = {"cron"}


class Comparison:
    """The same jobs of one app, once under Node's Worker and once under ours."""

    def __init__(
        self, app: App, node_worker: StartNodeWorker, client: redis.asyncio.Redis, url: str
    ) -> None:
        self._app = app
        self._node_worker = node_worker
        self._client = client
        self._url = url

    async def unexplained(
        self, prefix: str, scenarios: Mapping[str, Scenario], features: set[str]
    ) -> list[str]:
        """Return where they differ without being in the table; what is there must differ."""
        major = self._app.node.major
        runs = Runs(self._app, self._client, prefix, scenarios)
        by_node = await runs.by_node(self._node_worker, major=COMPARED_WITH[major])
        by_us = await runs.by_us(self._url)
        lines = differences(by_node, by_us)
        known = [one for name in features if (one := FEATURES[name].differs.get(major))]
        for one in known:
            assert any(one.explains(line) for line in lines), f"no longer: {one.why}"
        return [line for line in lines if not any(one.explains(line) for one in known)]


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
    comparison = Comparison(app, node_worker, redis_client, redis_url)
    chosen = {name: SCENARIOS[name] for name in features}
    lines = await comparison.unexplained(prefix, chosen, set(features.values()))
    again = {line.split("/")[1] for line in lines}
    if again and again <= OF_THE_SECOND:
        chosen = {name: SCENARIOS[name] for name in again}
        lines = await comparison.unexplained(prefix, chosen, {features[name] for name in again})
    assert not lines, "\n".join(lines)
    for name, feature in features.items():
        request.node.user_properties.append((PROVES, [feature, major, name]))

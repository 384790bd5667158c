"""What proves that something is ours, or a provider's, is compared in constant time."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType

import pytest

from campaign_worker.tracking import tokens
from campaign_worker.tracking.webhooks import postmark, svix

PROOFS = re.compile(r"\b(mac|_mac|expected|secret|_secret|signature|password|header|given)\b")


@pytest.mark.parametrize("module", [tokens, svix, postmark], ids=lambda module: module.__name__)
def test_proofs_are_compared_in_constant_time(module: ModuleType) -> None:
    tree = ast.parse(inspect.getsource(module))
    calls = [ast.unparse(one.func) for one in ast.walk(tree) if isinstance(one, ast.Call)]
    assert "hmac.compare_digest" in calls
    compared = [ast.unparse(one) for one in ast.walk(tree) if isinstance(one, ast.Compare)]
    assert [one for one in compared if PROOFS.search(one)] == []

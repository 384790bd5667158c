from __future__ import annotations

from shutdown import ExitCode


def test_the_exit_codes_are_the_documented_ones() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FORCED": 1,
        "INTERNAL_ERROR": 70,
        "WATCHDOG": 75,
        "CREDENTIALS_REFUSED": 77,
        "SETTINGS": 78,
    }

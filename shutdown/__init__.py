"""Stopping well: deadline, services, signals, plan, watchdog, hang guard, exit codes.

A leaf library on the standard library alone. It knows nothing of queues, mails or databases.
"""

from shutdown.deadline import Deadline
from shutdown.exit_codes import ExitCode
from shutdown.hang import HangGuard, Vital
from shutdown.plan import Phase, PhaseReport, PhaseResult, Plan
from shutdown.race import end, unless
from shutdown.service import Service, StartStop, StoppedWhileStarting
from shutdown.signals import Signals, StopLevel
from shutdown.watchdog import Watchdog

__all__ = [
    "Deadline",
    "ExitCode",
    "HangGuard",
    "Phase",
    "PhaseReport",
    "PhaseResult",
    "Plan",
    "Service",
    "Signals",
    "StartStop",
    "StopLevel",
    "StoppedWhileStarting",
    "Vital",
    "Watchdog",
    "end",
    "unless",
]

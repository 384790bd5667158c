"""What keeps a process from starting, or a command from doing its work."""

from __future__ import annotations

from dataclasses import dataclass

from campaign_worker.errors.root import CampaignWorkerError


class SettingsError(CampaignWorkerError):
    """A setting is missing or wrong.

    `setting` is the environment variable, `problem` what is wrong with it, `mend` what to do.
    """

    def __init__(self, setting: str, problem: str, mend: str = "") -> None:
        super().__init__(f"{setting}: {problem}" + (f" ({mend})" if mend else ""))
        self.setting = setting
        self.problem = problem
        self.mend = mend


class InvalidSettings(SettingsError):
    """Everything that is wrong with the settings; `problems` holds one SettingsError for each."""

    def __init__(self, problems: tuple[SettingsError, ...]) -> None:
        first = problems[0]
        super().__init__(first.setting, first.problem, first.mend)
        self.problems = problems

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(str(problem) for problem in self.problems)


class UnsupportedOption(SettingsError):
    """A BullMQ option that this worker does not honour; refused rather than ignored."""


@dataclass(frozen=True, slots=True)
class ContractProblem:
    """One fault of a contract: `line` counts from 1, `place` is a path as `load.recipients.query`.

    `mend` says what to do, "" where the problem says it.
    """

    file: str
    line: int
    place: str
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        """One line, as editors read it: file:line."""
        mend = f" ({self.mend})" if self.mend else ""
        return f"{self.file}:{self.line}: {self.place}: {self.problem}{mend}"


class ContractError(SettingsError):
    """The contract is wrong, or does not fit the database; `problems` holds each fault."""

    def __init__(self, problems: tuple[ContractProblem, ...]) -> None:
        super().__init__("CONTRACT", problems[0].problem, problems[0].mend)
        self.problems = problems

    def __str__(self) -> str:
        """One line for each problem."""
        return "\n".join(str(problem) for problem in self.problems)


class ScriptsChanged(CampaignWorkerError):
    """A Lua script of the installed bullmq package is missing or differs from the one we know."""

    def __init__(self, script: str, installed: str) -> None:
        super().__init__(f"bullmq script {script} is not the expected one (installed: {installed})")
        self.script = script
        self.installed = installed


class MigrationError(CampaignWorkerError):
    """The schema is not ours, or not what this version expects."""


class CredentialsRefused(CampaignWorkerError):
    """A server said no to our user, password or database: waiting cannot mend that."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class EmbeddedServerError(CampaignWorkerError):
    """A server of the embedded stack did not start or stop as it should.

    `server` is redis, postgres or smtp, `problem` what went wrong, with the end of its log.
    """

    def __init__(self, server: str, problem: str) -> None:
        super().__init__(f"{server}: {problem}")
        self.server = server
        self.problem = problem


class BinaryMissing(EmbeddedServerError):
    """The program of a server is not installed here; `problem` names the package to install."""


class DemoFailed(CampaignWorkerError):
    """A step of the demo did not come to its end.

    `step` is what was being done, `problem` why it ended, `log` the end of a worker's log, if that
    tells more.
    """

    def __init__(self, step: str, problem: str, log: str = "") -> None:
        super().__init__(f"{step}: {problem}")
        self.step = step
        self.problem = problem
        self.log = log

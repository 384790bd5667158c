"""What must hold between the tables of a contract. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from campaign_worker.contract.model import Contract, FollowUpJob, LaunchJob, MailState, SendJob
from campaign_worker.contract.toml_lines import Path

Fault = tuple[Path, str, str]


def broken_rules(contract: Contract) -> Iterator[Fault]:
    """Each fault as its path, what is wrong, and what to do."""
    for name, job in contract.jobs.items():
        path: Path = ("jobs", name)
        match job:
            case SendJob():
                yield from _send(contract, path, job)
            case FollowUpJob():
                yield from _campaign_tables(contract, path)
                if (job.step is None) is (job.step_id is None):
                    yield path, "needs step or step_id, and not both", "name the path of one"
                if contract.load.steps is None:
                    yield path, "is a follow-up, and [load.steps] is missing", "write it"
            case LaunchJob():
                yield from _campaign_tables(contract, path)
                if contract.load.audience is None:
                    yield path, "launches campaigns, and [load.audience] is missing", "write it"
            case _:
                pass
    yield from _states(contract)


def _send(contract: Contract, path: Path, job: SendJob) -> Iterator[Fault]:
    named = [name for name in ("campaign", "recipient", "recipients") if getattr(job, name)]
    if job.mail is not None:
        if named:
            yield (*path, named[0]), "stands beside mail", "one of the two"
        if job.mail.html is None and job.mail.text is None:
            yield (*path, "mail"), "has neither html nor text", "name the path of one"
        return
    if job.campaign is None:
        yield path, "has no campaign", "name the path of its id, or where the whole mail is"
    if job.recipient is None and job.recipients is None:
        yield path, "has no recipient", "name the path of its id, or of the list of recipients"
    yield from _campaign_tables(contract, path)


def _campaign_tables(contract: Contract, path: Path) -> Iterator[Fault]:
    if contract.load.campaigns is None:
        yield path, "is a campaign's, and [load.campaigns] is missing", "write it"
    if contract.load.recipients is None:
        yield path, "is a campaign's, and [load.recipients] is missing", "write it"


def _states(contract: Contract) -> Iterator[Fault]:
    writes = contract.write.recipients is not None or contract.write.mails is not None
    if writes and MailState.SENT not in contract.write.states:
        mend = "a Node worker beside this one would send such mails again"
        yield ("write", "states"), "has no word for sent", mend
    if contract.load.campaigns is None:
        return
    seen: dict[str, str] = {}
    for status, words in contract.load.campaigns.status.items():
        for word in words:
            if word in seen:
                path: Path = ("load", "campaigns", "status", status.value)
                yield path, f"{word!r} is {seen[word]} as well", "name each word once"
            seen[word] = status.value

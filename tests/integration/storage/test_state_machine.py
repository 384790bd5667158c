"""The schema itself: which state may follow which, and what a row may never be."""

from __future__ import annotations

import asyncpg
import pytest

from campaign_worker.delivery.settlements import FailReason, MarkFailed
from tests.integration.storage.kit import World, accepted

STATES = ("scheduled", "sending", "sent", "failed", "skipped", "in_doubt")

# The table of the design; staying in a state is no transition.
LEGAL = {
    ("scheduled", "sending"), ("scheduled", "skipped"), ("scheduled", "failed"),
    ("sending", "sent"), ("sending", "failed"), ("sending", "skipped"), ("sending", "scheduled"),
    ("sending", "in_doubt"), ("in_doubt", "sent"), ("in_doubt", "scheduled"),
    ("in_doubt", "failed"),
}  # fmt: skip

# What must come with a state for the row's constraints, so that only the trigger can refuse.
FIT = {
    "scheduled": "token = NULL, lease_until = NULL, marked_at = NULL, sent_at = NULL",
    "sending": "token = 't', claimed_at = now(), lease_until = now() + '1 h', sent_at = NULL",
    "sent": "sent_at = now(), message_id = '<a@b>'",
    "failed": "reason = 'rejected', sent_at = NULL",
    "skipped": "reason = 'unsubscribed', sent_at = NULL",
    "in_doubt": "reason = 'r', marked_at = now(), sent_at = NULL",
}
WAYS = {
    "scheduled": [],
    "sending": ["sending"],
    "sent": ["sending", "sent"],
    "failed": ["sending", "failed"],
    "skipped": ["skipped"],
    "in_doubt": ["sending", "in_doubt"],
}


async def become(world: World, row: int, state: str, **values: str) -> None:
    more = "".join(f", {name} = '{value}'" for name, value in values.items())
    fit = FIT[state]
    if values:
        fit = ", ".join(part for part in fit.split(", ") if part.split(" ")[0] not in values)
    comma = ", " if fit else ""
    await world.execute(
        f"UPDATE $messages SET state = '{state}'{comma}{fit}{more} WHERE id = $1", row
    )


async def new_row(world: World) -> int:
    campaign = await world.campaign()
    return int(
        await world.value(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2) RETURNING id",
            campaign.id,
            campaign.recipients[0],
        )
    )


async def row_in(world: World, state: str) -> int:
    row = await new_row(world)
    for step in WAYS[state]:
        await become(world, row, step)
    return row


async def test_every_pair_of_states_is_as_the_design_says(world: World) -> None:
    for before in STATES:
        for after in STATES:
            if before == after:
                continue
            row = await row_in(world, before)
            if (before, after) in LEGAL:
                await become(world, row, after)
                assert await world.state(row) == after
            else:
                refusal = f"{before} .*cannot become {after}"
                with pytest.raises(asyncpg.CheckViolationError, match=refusal):
                    await become(world, row, after)


@pytest.mark.parametrize(
    ("reason", "may"),
    [
        ("exhausted", True),
        ("quarantined", True),
        ("hard_bounce", False),
        ("rejected", False),
        ("render_error", False),
    ],
)
async def test_only_what_was_worn_out_may_be_tried_again(
    world: World, reason: str, may: bool
) -> None:
    row = await row_in(world, "sending")
    await become(world, row, "failed", reason=reason)
    if may:
        await become(world, row, "scheduled")
    else:
        with pytest.raises(asyncpg.CheckViolationError, match="cannot become scheduled"):
            await become(world, row, "scheduled")
    assert await world.state(row) == ("scheduled" if may else "failed")


async def test_a_hard_bounce_stays_one_whatever_is_written_over_its_reason(world: World) -> None:
    claim = await world.marked((await world.campaign()).request())
    await world.settle(claim, MarkFailed(FailReason.HARD_BOUNCE, "550", attempt_spent=True))
    await world.execute("UPDATE $messages SET reason = 'exhausted' WHERE id = $1", claim.id)
    with pytest.raises(asyncpg.CheckViolationError, match="cannot become scheduled"):
        await become(world, claim.id, "scheduled")


BROKEN = [
    ("sending", "sent", "sent_at = NULL, message_id = '<a@b>'"),
    ("sending", "sent", "sent_at = now(), message_id = NULL"),
    ("sending", "failed", "reason = NULL"),
    ("sending", "skipped", "reason = NULL"),
    ("sending", "in_doubt", "reason = NULL, marked_at = now()"),
    ("sending", "in_doubt", "reason = 'r', marked_at = NULL"),
    ("sending", "scheduled", "token = 't', lease_until = NULL"),
    ("sending", "scheduled", "token = NULL, lease_until = now()"),
    ("sending", "scheduled", "token = NULL, lease_until = NULL, marked_at = now()"),
    ("sending", "failed", "reason = 'r', sent_at = now()"),
    ("scheduled", "sending", "token = 't', claimed_at = now()"),
    ("scheduled", "sending", "claimed_at = now(), lease_until = now()"),
    ("scheduled", "sending", "token = 't', lease_until = now()"),
    ("scheduled", "scheduled", "attempts = -1"),
    ("scheduled", "lost", "reason = 'r'"),
]


@pytest.mark.parametrize(("before", "after", "values"), BROKEN)
async def test_a_row_is_never_half_of_something(
    world: World, before: str, after: str, values: str
) -> None:
    row = await row_in(world, before)
    with pytest.raises(asyncpg.CheckViolationError):
        await world.execute(f"UPDATE $messages SET state = '{after}', {values} WHERE id = $1", row)


async def test_messages_are_never_deleted(world: World) -> None:
    row = await new_row(world)
    with pytest.raises(asyncpg.CheckViolationError, match="never deleted"):
        await world.execute("DELETE FROM $messages WHERE id = $1", row)
    with pytest.raises(asyncpg.CheckViolationError, match="never deleted"):
        await world.execute("TRUNCATE $messages CASCADE")


async def test_a_message_begins_scheduled(world: World) -> None:
    campaign = await world.campaign()
    for column, value in [("state", "'skipped'"), ("first_opened_at", "now()")]:
        with pytest.raises(asyncpg.CheckViolationError):
            await world.execute(
                f"INSERT INTO $messages (campaign_id, recipient_id, reason, {column})"
                f" VALUES ($1, $2, 'r', {value})",
                campaign.id,
                campaign.recipients[0],
            )


async def test_whose_mail_a_row_is_never_changes(world: World) -> None:
    row = await new_row(world)
    for change in ("step = 3", "campaign_id = NULL", "recipient_id = NULL"):
        with pytest.raises(asyncpg.CheckViolationError):
            await world.execute(f"UPDATE $messages SET {change} WHERE id = $1", row)


async def test_a_recipient_of_another_campaign_gets_no_row(world: World) -> None:
    one, other = await world.campaign(), await world.campaign()
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await world.execute(
            "INSERT INTO $messages (campaign_id, recipient_id) VALUES ($1, $2)",
            one.id,
            other.recipients[0],
        )


async def test_templates_never_change(world: World) -> None:
    template = await world.template()
    with pytest.raises(asyncpg.CheckViolationError, match="templates never change"):
        await world.execute("UPDATE $templates SET subject = 'x' WHERE id = $1", template)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE $tracking_events SET machine = NOT machine",
        "UPDATE $tracking_events SET class = 'human', machine = false",
        "UPDATE $tracking_events SET class = 'privacy_proxy'",
        "UPDATE $tracking_events SET kind = 'click'",
        "UPDATE $tracking_events SET occurred_at = occurred_at - interval '1 s'",
        "UPDATE $tracking_events SET id = gen_random_uuid()",
        "DELETE FROM $tracking_events",
        "TRUNCATE $tracking_events",
    ],
)
async def test_tracking_events_are_only_ever_added(world: World, change: str) -> None:
    claim = await world.sent((await world.campaign()).request())
    await world.execute(
        "INSERT INTO $tracking_events (id, message_id, kind, class, machine) VALUES"
        " (gen_random_uuid(), $1, 'open', 'human', false),"
        " (gen_random_uuid(), $1, 'open', 'scanner', true)",
        claim.id,
    )
    with pytest.raises(asyncpg.CheckViolationError, match=r"only ever added|stay for a day"):
        await world.execute(change)


@pytest.mark.parametrize("column", ["first_opened_at", "first_clicked_at"])
async def test_first_times_follow_from_events_and_are_never_set(world: World, column: str) -> None:
    claim = await world.sent((await world.campaign()).request())
    with pytest.raises(asyncpg.CheckViolationError, match="follow from tracking events"):
        await world.execute(f"UPDATE $messages SET {column} = now() WHERE id = $1", claim.id)


async def test_a_link_that_mails_lead_to_is_never_deleted(world: World) -> None:
    await world.execute(
        "INSERT INTO $links (template_id, position, url) VALUES ($1, 0, 'https://example.org')",
        await world.template(),
    )
    for change in ("DELETE FROM $links", "TRUNCATE $links"):
        with pytest.raises(asyncpg.CheckViolationError, match="never deleted"):
            await world.execute(change)


async def test_a_usage_key_counts_once(world: World) -> None:
    claim = await world.sent((await world.campaign()).request())
    with pytest.raises(asyncpg.UniqueViolationError):
        await world.execute(
            "INSERT INTO $usage_events (idempotency_key, message_id) VALUES ($1, $2)",
            f"message-{claim.id}",
            claim.id,
        )
    assert accepted(claim).message_id == (await world.row(claim))["message_id"]

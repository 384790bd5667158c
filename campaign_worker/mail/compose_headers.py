"""The headers that campaign mails carry for mailbox providers; a campaign's own come before them.

Only for campaigns: a self-contained job's mail has the headers that its job gives.
"""

from __future__ import annotations

from collections.abc import Mapping

_SENDER = "campaign-worker"


def bulk_headers(
    *, campaign_id: int, step: int, domain: str, unsubscribe_url: str
) -> dict[str, str]:
    """Give them in the order in which they are written.

    `domain` is the sender's. List-Unsubscribe and its Post are a pair that acts without asking
    (RFC 8058); the Post promises https, so a plain http URL goes without it. List-Id: RFC 2919.
    Auto-Submitted: RFC 3834, keeps automatic answers away. Feedback-ID: up to three identifiers
    that differ from field to field, then the sender's of 5 to 15 characters
    (https://support.google.com/mail/answer/6254652).
    """
    # An address literal has brackets and colons, which mean something else here.
    domain = domain.strip("[]").replace(":", "-")
    headers = {"List-Unsubscribe": f"<{unsubscribe_url}>"}
    if unsubscribe_url.startswith("https://"):
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    headers["List-Id"] = f"<campaign-{campaign_id}.{domain}>"
    headers["Feedback-ID"] = f"campaign-{campaign_id}:step-{step}:{domain}:{_SENDER}"
    headers["Auto-Submitted"] = "auto-generated"
    return headers


def merged(own: Mapping[str, str | None], usual: Mapping[str, str]) -> dict[str, str]:
    """Put a campaign's own headers over the usual ones; None takes one away.

    Whoever sets List-Unsubscribe answers for the Post as well: ours would promise one click for an
    address that knows nothing of it.
    """
    named = {name.lower() for name in own}
    if "list-unsubscribe" in named:
        named.add("list-unsubscribe-post")
    kept = {name: value for name, value in usual.items() if name.lower() not in named}
    return kept | {name: value for name, value in own.items() if value is not None}

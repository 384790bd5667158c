"""Servers that demand STARTTLS and a login, and what is said when they refuse ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from campaign_worker.embedded.smtp_server import SmtpSink
from tests.acceptance.evidence import flawless
from tests.acceptance.site import Site, SiteMaker
from tests.fixtures.smtp import Certificate
from tests.support import free_port

USER, RIGHT, WRONG = "mailer-login", "s3cret/word", "not-the-s3cret"


@pytest.mark.parametrize("trust", ["authority", "anybody"])
async def test_mail_arrives_by_starttls_and_login(
    make_site: SiteMaker,
    own_sink: Callable[..., Awaitable[SmtpSink]],
    certificate: Certificate,
    trust: str,
) -> None:
    site = await guarded(make_site, own_sink, certificate)
    if trust == "anybody":
        site.env["SMTP_URL"] += "?tls_verify=false"
    else:
        site.env["SSL_CERT_FILE"] = str(certificate.file)
    await site.ready("worker")
    campaign = await site.campaign(20)
    await site.add(campaign)
    assert await site.finished(campaign) == flawless(20)


async def test_a_certificate_that_nobody_vouches_for_holds_intake(
    make_site: SiteMaker, own_sink: Callable[..., Awaitable[SmtpSink]], certificate: Certificate
) -> None:
    site = await guarded(make_site, own_sink, certificate)
    worker = await site.ready("worker")
    campaign = await site.campaign(3)
    await site.add(campaign)
    await worker.says("intake held", away="transport default")
    (held,) = worker.records("intake held")
    assert "certificate" in held["error"]
    assert site.sink.mails == []


async def test_a_wrong_login_holds_intake_and_check_says_so(
    make_site: SiteMaker, own_sink: Callable[..., Awaitable[SmtpSink]], certificate: Certificate
) -> None:
    site = await guarded(make_site, own_sink, certificate)
    site.env["SSL_CERT_FILE"] = str(certificate.file)
    wrong = site.env["SMTP_URL"].replace(RIGHT.replace("/", "%2F"), WRONG)
    worker = await site.ready("worker", SMTP_URL=wrong)
    campaign = await site.campaign(3)
    await site.add(campaign)
    await worker.says("intake held", away="transport default")
    (held,) = worker.records("intake held")
    assert "auth: the server said 535" in held["error"]
    assert await worker.status("/health") == 200
    assert (await worker.health())["held"] == ["transport default"]
    checked = await site.cli("check", SMTP_URL=wrong, PORT=str(free_port()))
    assert checked.code == 77
    assert f"refused transport default: smtp+starttls://{USER}:***@" in checked.stdout
    await worker.kill()
    # With the right one nothing has been lost meanwhile, and no attempt was spent.
    await site.ready("mended")
    assert await site.finished(campaign) == flawless(3)


async def guarded(
    make_site: SiteMaker, own_sink: Callable[..., Awaitable[SmtpSink]], certificate: Certificate
) -> Site:
    sink = await own_sink(starttls=certificate.server_context, credentials=(USER, RIGHT))
    site = make_site(sink=sink, secrets=(RIGHT, RIGHT.replace("/", "%2F"), WRONG))
    assert site.env["SMTP_URL"].startswith(f"smtp+starttls://{USER}:")
    return site

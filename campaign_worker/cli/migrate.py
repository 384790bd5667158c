"""`campaign-worker migrate`: brings the schema to this version."""

from __future__ import annotations

import asyncio

from campaign_worker.cli.console import exits, stdout
from campaign_worker.settings import DatabaseSettings

NAME = "migrate"


def command() -> None:
    """Bring our schema in Postgres to this version.

    Idempotent, and safe when several replicas start at once. Touches nothing but DATABASE_SCHEMA
    (campaign_worker), which it creates; a schema with somebody else's tables is refused.

    Needs: DATABASE_URL; MIGRATE_DATABASE_URL where DATABASE_URL is a pooler's.

    Example: DATABASE_URL=postgresql://user:password@host/database campaign-worker migrate

    Exit codes: 0 the schema is at this version, 1 it is not, 77 login refused, 78 settings.
    """
    with exits():
        settings = DatabaseSettings.load()
        from campaign_worker.storage.migrate import migrate

        url = settings.migrate_database_url or settings.database_url
        own = url != settings.database_url
        report = asyncio.run(
            migrate(
                url.get_secret_value(),
                schema=settings.database_schema,
                setting="MIGRATE_DATABASE_URL" if own else "DATABASE_URL",
            ),
        )
        applied = ", ".join(str(version) for version in report.applied) or "nothing to do"
        stdout().print(f"schema {report.schema}: version {report.version} (applied: {applied})")

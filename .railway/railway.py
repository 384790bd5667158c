"""The worker as Railway infrastructure as code (`railway config plan`, `railway config apply`).

Replaces railway.json, which Railway stops reading on 2026-12-01. A partial: it owns this one
service and leaves the app's other services alone. Needs `pip install railway-sdk` and
WORKER_REPOSITORY=owner/name.

`apply` deletes variables of the service that stand nowhere here; read its plan.
"""

import os
from typing import Any

from railway_sdk import Project, define_railway, github, preserve, project, service

PARTIAL = "campaign-worker"

# `railway config migrate` drops draining, overlap and restart policy: they stand here by hand, and
# a test compares them with Dockerfile, railway.json and README.
DEPLOY = {
    "drainingSeconds": 60,
    "overlapSeconds": 0,
    "restartPolicyType": "ALWAYS",
}
BUILD = {
    "builder": "DOCKERFILE",
    "dockerfilePath": "Dockerfile",
    "watchPatterns": [
        "/campaign_worker/**",
        "/shutdown/**",
        "/metrics/**",
        "/requirements/run.txt",
        "/pyproject.toml",
        "/contract.toml",
        "/Dockerfile",
    ],
}
# Seen by the process, so that it knows its drain window.
VARIABLES = {
    "RAILWAY_DEPLOYMENT_DRAINING_SECONDS": "60",
    "RAILWAY_DEPLOYMENT_OVERLAP_SECONDS": "0",
}
# Kept as they are set on the service: `railway config apply` deletes what a file does not name. All
# settings, by a test; RESEND_API_KEY is what README's SMTP_URL refers to. Further ones, such as
# SMTP_URL_BULK, come from WORKER_VARIABLES.
KEPT = """
    AMBIGUOUS_SEND BOUNCE_PAUSE_SECONDS BULLMQ_PREFIX CONCURRENCY CONTRACT
    DATABASE_POOLER DATABASE_POOL_SIZE DATABASE_SCHEMA DATABASE_URL DRAIN_SECONDS
    EHLO_NAME INSTANCE_ID LEASE_SECONDS LIMITER_DURATION_MS LIMITER_MAX LOCK_DURATION_MS
    LOG_FORMAT LOG_LEVEL MAIL_FROM MAX_STALLED_COUNT MIGRATE_DATABASE_URL
    POSTMARK_WEBHOOK_SECRET QUARANTINE_DEATHS QUEUES RECONCILE_INTERVAL_SECONDS
    RECONCILE_OVERDUE_SECONDS REDIS_URL RESEND_WEBHOOK_SECRET RETRY_4XX_FLOOR_SECONDS
    SEND_RATE_PER_SECOND SEND_REPLY_TIMEOUT_SECONDS SEND_TIMEOUT SES_WEBHOOK_TOPICS
    SMTP_IDLE_TIMEOUT_SECONDS SMTP_MAX_CONNECTIONS SMTP_MESSAGES_PER_CONNECTION SMTP_URL
    STALLED_INTERVAL_MS TRACKING_BASE_URL TRACKING_CLIENT_HASH TRACKING_CLIENT_IP_HEADER
    TRACKING_LIMIT_PER_CLIENT TRACKING_LIMIT_PER_LINK TRACKING_RETENTION_DAYS
    TRACKING_SIGNING_KEYS TRANSPORT_PROBE_SECONDS UNKNOWN_JOBS
    RESEND_API_KEY
"""


@define_railway
def main(_context: Any = None) -> Project:
    """Describe the one service."""
    further = os.environ.get("WORKER_VARIABLES", "").replace(",", " ").split()
    worker = service(
        "campaign-worker",
        source=github(os.environ["WORKER_REPOSITORY"]),
        build=BUILD,
        preDeploy="campaign-worker migrate",
        healthcheck="/health",
        healthcheckTimeout=120,
        deploy=DEPLOY,
        env={**VARIABLES, **{name: preserve() for name in (*KEPT.split(), *further)}},
    )
    return project("campaign-worker", resources=[worker])

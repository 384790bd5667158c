"""The worker as Railway infrastructure as code (`railway config plan`, `railway config apply`).

Replaces railway.json, which Railway stops reading on 2026-12-01. A partial: it owns this one
service and leaves the app's other services alone. Needs `pip install railway-sdk` and
WORKER_REPOSITORY=owner/name.
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
# Kept as they are set on the service; none of them belongs into a file.
SECRETS = ("REDIS_URL", "DATABASE_URL", "SMTP_URL", "MAIL_FROM")


@define_railway
def main(_context: Any = None) -> Project:
    """Describe the one service."""
    worker = service(
        "campaign-worker",
        source=github(os.environ["WORKER_REPOSITORY"]),
        build=BUILD,
        preDeploy="campaign-worker migrate",
        healthcheck="/health",
        healthcheckTimeout=120,
        deploy=DEPLOY,
        env={**VARIABLES, **{name: preserve() for name in SECRETS}},
    )
    return project("campaign-worker", resources=[worker])

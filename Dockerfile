# syntax=docker/dockerfile:1
# Two stages: what is installed is built with pip, what runs has no pip cache, no compiler and no root.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/campaign-worker
COPY requirements/run.txt /src/requirements/run.txt
RUN /opt/campaign-worker/bin/pip install --only-binary :all: --require-hashes -r /src/requirements/run.txt
COPY pyproject.toml README.md LICENSE /src/
COPY campaign_worker /src/campaign_worker
COPY shutdown /src/shutdown
COPY metrics /src/metrics
RUN /opt/campaign-worker/bin/pip install --no-deps /src

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin worker
COPY --from=build /opt/campaign-worker /opt/campaign-worker
WORKDIR /app
# An app's contract, if one stands beside this file; the settings name it with CONTRACT=contract.toml.
COPY LICENSE contract.toml* /app/
# DRAIN_SECONDS is compared with railway.json, .railway/railway.py and the README by a test.
ENV PATH=/opt/campaign-worker/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DRAIN_SECONDS=60
USER worker
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "campaign_worker.healthcheck"]
# Exec form, no shell: SIGTERM must reach Python itself.
CMD ["campaign-worker", "run"]

"""`campaign-worker` and `python -m campaign_worker`."""

from __future__ import annotations

from campaign_worker.cli import app


def main() -> None:
    """Run the command line; never returns."""
    app()


if __name__ == "__main__":
    main()

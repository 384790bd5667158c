"""`python -m campaign_worker.settings --write-docs`: writes docs/configuration.md, or prints it."""

from __future__ import annotations

import sys
from pathlib import Path

from campaign_worker.settings.document import configuration_page


def main(arguments: list[str]) -> None:
    """Print the page, or write it where the working directory is the project."""
    if arguments == ["--write-docs"]:
        Path("docs/configuration.md").write_text(configuration_page(), encoding="utf-8")
    else:
        sys.stdout.write(configuration_page())


if __name__ == "__main__":
    main(sys.argv[1:])

"""`python -m campaign_worker.contract`: writes what docs say of contracts, from the classes."""

from __future__ import annotations

from campaign_worker.contract.document import write

if __name__ == "__main__":
    write()

"""The demo: a campaign on servers of its own, redeployed in its middle, every mail counted.

Starts, watches and counts; what sends is the product itself, in processes of its own.
"""

from campaign_worker.demo.options import Options
from campaign_worker.demo.runner import run

__all__ = ["Options", "run"]

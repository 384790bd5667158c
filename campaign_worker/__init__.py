"""campaign-worker: BullMQ e-mail campaigns that survive every deploy."""

__version__ = "0.1.0"

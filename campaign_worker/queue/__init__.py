"""BullMQ: claim, lock, finish, hand back. Knows nothing of e-mail."""

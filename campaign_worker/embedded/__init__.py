"""The default stack of a laptop: Redis, Postgres and an SMTP sink as child processes of ours.

Every server listens on loopback only. None of them outlives the process that started it.
"""

"""Opens and clicks while Postgres is away and a tracker is killed; `make chaos-track`."""

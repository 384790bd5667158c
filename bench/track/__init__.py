"""Our tracker against a Node one that inserts per request: `python -m bench.track`."""

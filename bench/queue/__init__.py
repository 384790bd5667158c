"""Our worker, Node's and the Python package's against one Redis: `python -m bench.queue`."""

"""Rolling deploys in the middle of a campaign; `make chaos-deploy`."""

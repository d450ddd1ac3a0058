"""Power: how often drift detection is wrong without drift, and how often it finds a planted shift."""

"""Power: how often drift detection raises a false alarm, and how often it detects a planted shift."""

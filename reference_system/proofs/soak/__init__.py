"""Soak test: a complete system runs for hours, and bounds limit what may rise."""

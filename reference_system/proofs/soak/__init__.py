"""Soak test: runs a complete system for hours and checks its resource use and lag against bounds."""

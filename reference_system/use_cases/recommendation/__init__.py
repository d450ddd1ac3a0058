"""Recommendation: choose the videos of a page; learn from what is watched."""

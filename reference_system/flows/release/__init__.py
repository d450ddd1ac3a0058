"""Releases controlled: evidence from the logs and from serving, and the next step of each release."""

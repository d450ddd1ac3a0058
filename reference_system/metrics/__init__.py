"""Metrics that several stages compute, each defined once, and a line on what each means."""

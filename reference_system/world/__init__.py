"""The world: card holders, terminals, viewers, videos, and the patterns that change among them.

In: a seed, the settings and the scenarios that were started by hand. Out: events in time order; in history into the
lake, live to Kafka after asking the real-time service as a shop or an app would.
Invariant: one code path makes both; what happens in a slice of simulated time depends on the seed, that slice and the
scenarios alone, so a restart neither repeats nor skips an event.
"""

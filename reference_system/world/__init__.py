"""The simulated world: card holders, terminals, viewers, videos, and patterns that change over time.

In: a seed, the settings and the scenarios that were started by hand. Out: events in time order; history goes to the
lake, live events to Kafka, after requests to the real-time service like those of a shop or an app.
Invariant: one code path generates both; the events of a slice of simulated time depend only on the seed, that slice
and the scenarios, so a restart neither repeats nor skips an event.
"""

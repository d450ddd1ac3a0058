"""Ingestion: topics → lake and stream state.

In: bytes on the topics of `use_cases.TOPICS`. Out: one lake row for each event id; bytes that are no event
go to `<topic>.dead-letter`, untouched.
Invariant: every sink keeps its offsets together with its data, so a crash at any point loses no event and stores
none twice; offsets are committed to Kafka for the lag only.
"""

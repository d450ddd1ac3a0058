"""The lake: Delta tables, one a topic, of the live system and of each dataset.

In: Arrow rows with the offsets they reach. Out: rows by time and field.
Invariant: a commit is whole or absent; the number of events that ever were counted stays true when old days go.
"""

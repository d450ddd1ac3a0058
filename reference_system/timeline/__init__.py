"""Timeline: the story of the models, from the promotion log, the monitoring reports and the scenarios.

In: what those three wrote. Out: entries in event time, and their plot.
"""

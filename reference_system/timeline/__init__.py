"""Timeline of the models, from the promotion log, the monitoring reports and the scenarios.

In: the records of these three. Out: entries in event time, and their plot.
"""

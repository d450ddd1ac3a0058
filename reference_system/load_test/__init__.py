"""Load test: a plan of requests → what the service did.

In: rate, duration, shape and seed. Out: samples, figures per second and over the whole, plots and a page.
Invariant: requests are sent when they are due, whether or not the service keeps up; a late generator says so.
"""

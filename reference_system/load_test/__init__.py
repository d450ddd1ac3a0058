"""Load test: sends a plan of requests and measures the service.

In: rate, duration, shape and seed. Out: samples, figures per second and for the whole run, plots and a page.
Invariant: requests are sent when they are due, whether or not the service keeps up; generator lag is reported.
"""

"""Columns: which is which field, and cells → ids, times, numbers and flags."""

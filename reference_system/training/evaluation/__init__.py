"""Evaluation: metrics, calibration, slices, importance, training-serving skew, plots."""

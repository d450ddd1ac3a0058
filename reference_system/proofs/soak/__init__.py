"""The soak: a whole system left alone for hours, and bounds on what may rise."""

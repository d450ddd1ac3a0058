"""The promotion gate: comparison with the champion, and the checks that an average does not make."""

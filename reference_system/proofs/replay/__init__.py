"""Replay: a period of a dataset through broker, consumer and read path, compared with history."""

"""Challengers: the version beside the champion, as shadow, canary or arm of an experiment."""

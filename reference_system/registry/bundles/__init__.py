"""Bundles: the files that serving loads, with digests and golden rows, and their verification."""

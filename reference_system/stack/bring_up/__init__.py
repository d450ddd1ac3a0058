"""Bring-up: the jobs of `workbook up` in the order of their needs, with progress."""

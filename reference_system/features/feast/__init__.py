"""Feast: registry objects, offline store with a native ASOF join, online store of packed rows."""

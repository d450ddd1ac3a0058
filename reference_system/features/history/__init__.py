"""History: the value of each feature at past moments, computed from the lake with DuckDB."""

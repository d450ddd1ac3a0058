"""Files: CSV and Parquet, read in chunks."""

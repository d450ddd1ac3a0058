"""Ingestion put together: poll → decode → classify → apply → commit, and the same from the topics' beginning."""

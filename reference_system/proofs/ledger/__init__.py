"""The ledger: recounts every topic and every state from the raw records, without ingestion code."""

"""The ledger: every topic and every state counted again from the raw records, without a line of ingestion."""

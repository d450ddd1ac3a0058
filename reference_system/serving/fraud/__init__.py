"""The fraud score of one payment."""

"""Dead letters: bytes that are no event, written, read and sent again."""

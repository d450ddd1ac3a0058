"""The page of one viewer: candidates, ranking, and the catalogue in memory."""

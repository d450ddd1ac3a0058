"""Training the ranker: training set, evaluation on pages, off-policy estimates."""

"""What is watched of the recommender: behaviour, inputs, and what a page is worth."""

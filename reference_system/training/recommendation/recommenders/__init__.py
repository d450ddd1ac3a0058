"""Recommenders for a dataset of ratings: popularity, neighbours, linear autoencoder; their search and backtest."""

"""Training the fraud model: training set, selection and evaluation, and the backtest on datasets."""

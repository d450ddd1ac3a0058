"""`workbook backtest` and its sub-verbs."""

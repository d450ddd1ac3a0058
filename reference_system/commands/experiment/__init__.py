"""`workbook experiment` and its sub-verbs."""

"""`workbook drift`: any two tables compared."""

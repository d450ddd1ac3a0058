"""Card holders, terminals, payments, and episodes of fraud."""

"""How files spell that a value is missing.

In: nothing. Out: the spellings, trimmed and in lower case.
Invariant: whoever reads a text cell compares it in lower case, so that `NaN`, `nan` and `NAN` are one.

They are what pandas, R, Spark, Excel, PostgreSQL and MySQL write, and what people type.
"""

MISSING = (
    "",
    "nan",
    "-nan",
    "na",
    "n/a",
    "n.a.",
    "#n/a",
    "#na",
    "<na>",
    "null",
    "<null>",
    "(null)",
    "none",
    "nat",
    "\\n",
)

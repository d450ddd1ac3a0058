"""`workbook backtest`: how well would models have done on a dataset's past?

In: which models. Out: what their module says.
Invariant: nothing that came after a test began has a part in what is tested there.
"""

from __future__ import annotations

import typer

from reference_system.commands.backtest import fraud as backtest_fraud
from reference_system.commands.backtest import recommendation as backtest_recommendation
from reference_system.commands.backtest import recommendation_off_policy as backtest_off_policy

app = typer.Typer(no_args_is_help=True, help="How well models would have done on a dataset's past.")
app.add_typer(backtest_fraud.app)
app.add_typer(backtest_recommendation.app)
app.add_typer(backtest_off_policy.app)


@app.callback()
def backtest() -> None:
    """How well models would have done on a dataset's past."""

"""Parity of payments: how history makes the input rows that were logged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.arrays import Floats, Ints
from reference_system.event_time import moment_of
from reference_system.features.history.window_sums import terms_of
from reference_system.lake import delta_lake
from reference_system.proofs.parity.case import Assemble, ParityCase
from reference_system.proofs.parity.logged_rows import (
    LoggedRows,
    places_of,
    questions_of,
    read_around,
    values_at_places,
)
from reference_system.proofs.parity.questions import Own, Questions
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS

VIEWS = (fraud.CUSTOMER_ACTIVITY, fraud.TERMINAL_RISK)


def payment_questions(lake: Path, log: LoggedRows, served: Floats) -> tuple[Questions, Questions, Assemble]:
    """The customer's and the terminal's windows. A payment that did not happen has the requested amount."""
    moments = log.times("event_timestamp")
    columns = ("transaction_id", "customer_id", "event_timestamp", "amount", delta_lake.LATE)
    paid = read_around(lake, TRANSACTIONS, int(moments.min()), int(moments.max()), columns).read_all()
    found, place = places_of(log.column("request_id"), paid["transaction_id"])
    amounts = np.where(found, values_at_places(paid["amount"], place), served[:, fraud.INPUTS.index("amount")])
    customers = log.of_lists("entity_keys", np.zeros_like(log.of))
    counted = (
        found
        & (values_at_places(paid["event_timestamp"].cast(pa.int64()), place) == moments)
        & ~values_at_places(paid[delta_lake.LATE], place).astype(bool)
        & (np.array(customers.to_pylist()) == np.array(paid["customer_id"].to_pylist() or [""])[place])
    )
    customer, terminal = (
        questions_of(view, log, number, log.times("created_timestamp")) for number, view in enumerate(VIEWS)
    )
    customer = Questions(
        view=customer.view,
        keys=customer.keys,
        moments=customer.moments,
        states=customer.states,
        read_at=customer.read_at,
        own=Own(sums=_own_sums(np.nan_to_num(amounts)), counted=counted),
    )
    requests = np.array(
        [fraud.request_inputs(a, moment_of(t)) for a, t in zip(amounts.tolist(), moments.tolist(), strict=True)]
    )

    def assemble(of_customer: Floats, of_terminal: Floats, rows: Ints) -> Floats:
        return np.column_stack([requests[rows], of_customer, of_terminal])

    return customer, terminal, assemble


def _own_sums(amounts: Floats) -> Floats:
    """The sums that each payment adds for its customer: its own row, in windows that end with it."""
    row = {name: np.full(len(amounts), value) for name, value in fraud.own_row(0.0).items()} | {"amount": amounts}
    terms = terms_of(fraud.CUSTOMER_ACTIVITY)
    return np.column_stack([row[name] if not delay else np.zeros(len(amounts)) for _, delay, name in terms])


CASE = ParityCase(event=TRANSACTIONS, views=VIEWS, by_item=False, questions=payment_questions)

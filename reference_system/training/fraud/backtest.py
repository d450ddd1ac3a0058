"""The backtest of fraud models: what would have been chosen, and how well it would have done, week after week.

    train ──────► delay ──► test                        a fold; the next one begins a test window later
    … ◄── search: folds of the same form that end with the training window

In: the payments of a dataset with the moments at which frauds were reported, a plan. Out: one outcome a fold.
Invariant: what a fold chooses and learns was known when its test begins. The test windows do not overlap. A fold that
cannot be tested takes none of the others with it.

The protocol, the cards that leave the test and the metrics are those of the Fraud Detection Handbook (Le Borgne et
al., chapters 3 to 5), so that its tables can be compared; its folds move back in time, ours move on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Floats32, Ints, Micros
from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.reliability import expected_calibration_error
from reference_system.training.labelled_rows import LabelledRows, canonical_order, require_both_classes
from reference_system.training.model_search import (
    FoldResult,
    FoldRows,
    Say,
    Search,
    Trial,
    conclude_search,
    negative_share,
    trials_of,
    try_out,
)
from reference_system.training.prequential import Fold, Protocol, fold_rows, prequential_folds
from reference_system.training.sklearn_estimators import FittedModel
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud import model

# The `reported` of a payment that nobody disputed, and the `withdrawn` of a dispute that stands.
NEVER_REPORTED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPayments:
    """All payments of a dataset in the order of time.

    Each is known to be a fraud from `reported` on and before `withdrawn`; either may be `NEVER_REPORTED`.
    """

    inputs: Floats32
    reported: Micros
    withdrawn: Micros
    cards: Ints
    times: Micros

    @classmethod
    def in_order(
        cls, *, inputs: Floats32, reported: Micros, withdrawn: Micros, cards: Ints, times: Micros
    ) -> tuple[DatasetPayments, Ints]:
        """Payments in their canonical order, and the place that each had before; the arrays are in any order."""
        order = canonical_order(times, inputs, reported.astype(np.float64), withdrawn.astype(np.float64))
        found = cls(
            inputs=inputs[order],
            reported=reported[order],
            withdrawn=withdrawn[order],
            cards=cards[order],
            times=times[order],
        )
        return found, order

    def __len__(self) -> int:
        """How many there are."""
        return len(self.times)

    @property
    def first_day(self) -> int:
        """The midnight before the first payment."""
        return int(self.times[0]) // MICROS_PER_DAY * MICROS_PER_DAY

    @property
    def end(self) -> int:
        """The midnight after the last payment."""
        return (int(self.times[-1]) // MICROS_PER_DAY + 1) * MICROS_PER_DAY

    def between(self, start: int, end: int, *, known: int) -> LabelledRows:
        """The payments of `[start, end)` with what was known at a moment."""
        of = slice(*np.searchsorted(self.times, (start, end)))
        labels = ((self.reported[of] <= known) & (self.withdrawn[of] > known)).astype(np.float64)
        return LabelledRows(inputs=self.inputs[of], labels=labels, groups=self.cards[of], times=self.times[of])


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestPlan:
    """What is backtested.

    `names` are the estimators to choose from, the simplest first. With `drop_known`, cards of known frauds leave the
    tests, and a card that was found is not looked for again.
    """

    train_start: int
    protocol: Protocol
    drop_known: bool
    names: Sequence[str]

    def folds(self) -> list[Fold]:
        """The folds, each a test window later than the one before."""
        found = []
        for number in range(self.protocol.folds):
            start = self.train_start + number * self.protocol.test_days * MICROS_PER_DAY
            train_end = start + self.protocol.train_days * MICROS_PER_DAY
            test_start = train_end + self.protocol.delay_days * MICROS_PER_DAY
            found.append(Fold(start, train_end, test_start, test_start + self.protocol.test_days * MICROS_PER_DAY))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestFold:
    """One fold: the windows, the model, why it was chosen, what it is worth; `places` are the tested payments."""

    fold: Fold
    train: LabelledRows
    test: LabelledRows
    places: Ints
    fitted: FittedModel
    search: Search | None
    reason: str
    scores: Floats
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutPayments:
    """A fold that cannot be tested, and why."""

    fold: Fold
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """A backtest under way; what a fold of the search found is kept for the folds that need it again."""

    payments: DatasetPayments
    plan: BacktestPlan
    seed: int
    say: Say
    _tried: dict[Fold, tuple[FoldResult, ...] | None] = field(default_factory=dict)

    def run(self) -> Iterator[BacktestFold | LeftOutPayments]:
        """Every fold, in the order of time; one whose windows have a single outcome is left out with the reason.

        Raises:
            TrainingError: if a window lies outside the data, or no fold is left; before any work is done.
        """
        require_data(self.payments, self.plan)
        folds = [(fold, self._fault(fold)) for fold in self.plan.folds()]
        faults = [fault for _, fault in folds if fault is not None]
        if len(faults) == len(folds):
            raise faults[0]
        for fold, fault in folds:
            yield self._outcome(fold) if fault is None else LeftOutPayments(fold=fold, reason=str(fault))

    def _fault(self, fold: Fold) -> TrainingError | None:
        try:
            require_both_classes(self._train(fold).labels, "training", _span(fold.train_start, fold.train_end))
            require_both_classes(self._test(fold)[0].labels, "test", _span(fold.test_start, fold.test_end))
        except TrainingError as error:
            return error
        return None

    def _outcome(self, fold: Fold) -> BacktestFold:
        train, (test, places) = self._train(fold), self._test(fold)
        trials = trials_of(self.plan.names)
        search, reason = self._search(fold, trials)
        chosen = trials[0] if search is None else search.winner.trial
        self.say(f"{chosen}, to be tested")
        fitted = chosen.fit_to_keep(train, seed=self.seed, negative_share=negative_share(train, model.MOST_GENUINE))
        if search is not None:
            fitted = fitted.calibrated(search.winner.calibration())
        scores = fitted.score(test.inputs)
        return BacktestFold(
            fold=fold,
            train=train,
            test=test,
            places=places,
            fitted=fitted,
            search=search,
            reason=reason,
            scores=scores,
            metrics=payment_metrics(scores, test, drop_detected=self.plan.drop_known),
        )

    def _train(self, fold: Fold) -> LabelledRows:
        return self.payments.between(fold.train_start, fold.train_end, known=fold.test_start)

    def _test(self, fold: Fold) -> tuple[LabelledRows, Ints]:
        rows = self.payments.between(fold.test_start, fold.test_end, known=NEVER_REPORTED - 1)
        first = int(np.searchsorted(self.payments.times, fold.test_start))
        kept = self._kept(fold, rows)
        return fold_rows(rows, kept), first + np.flatnonzero(kept)

    def _kept(self, fold: Fold, rows: LabelledRows) -> NDArray[np.bool_]:
        if not self.plan.drop_known:
            return np.ones(len(rows), np.bool_)
        before = self.payments.between(fold.train_start, fold.test_end, known=NEVER_REPORTED - 1)
        return ~known_compromised(before, rows, delay_days=self.plan.protocol.delay_days)

    def _search(self, fold: Fold, trials: Sequence[Trial]) -> tuple[Search | None, str]:
        """Folds of the same form, the youngest that end with the training window; they may begin before it."""
        protocol = self.plan.protocol
        inner = Protocol(
            train_days=protocol.train_days,
            delay_days=protocol.delay_days,
            test_days=protocol.test_days,
            folds=model.FOLDS,
        )
        found = prequential_folds(self.payments.first_day, fold.train_end, inner)
        results = [self._try(one, trials, fold, cut_short=found.shortened is not None) for one in found.folds]
        usable = [result for result in results if result is not None]
        if not usable:
            return None, f"{trials[0]}: the simplest, because no fold before the test has both outcomes"
        search = conclude_search(trials, usable)
        return search, search.reason + (f" ({found.shortened})" if found.shortened else "")

    def _try(
        self, fold: Fold, trials: Sequence[Trial], outer: Fold, *, cut_short: bool
    ) -> tuple[FoldResult, ...] | None:
        if fold not in self._tried:
            # A fold that was cut short has no delay of its own: its labels are those known when the test begins.
            delay = self.plan.protocol.delay_days * MICROS_PER_DAY
            learned, judged = (fold.test_start, fold.test_end + delay)
            if cut_short:
                learned = judged = outer.test_start
            test = self.payments.between(fold.test_start, fold.test_end, known=judged)
            rows = FoldRows(
                train=self.payments.between(fold.train_start, fold.train_end, known=learned),
                test=fold_rows(test, self._kept(fold, test)),
            )
            share = negative_share(rows.train, model.MOST_GENUINE)
            self._tried[fold] = (
                try_out(trials, rows, seed=self.seed, negative_share=share, say=self.say) if rows.usable else None
            )
        return self._tried[fold]


def require_data(payments: DatasetPayments, plan: BacktestPlan) -> None:
    """Refuse folds that reach beyond the payments.

    Raises:
        TrainingError: with the last possible start, or the first one.
    """
    last = plan.folds()[-1]
    days = (last.test_end - plan.train_start) // MICROS_PER_DAY
    latest = payments.end - days * MICROS_PER_DAY
    if latest < payments.first_day:
        have = (payments.end - payments.first_day) // MICROS_PER_DAY
        raise TrainingError(
            f"such folds need {days} days of payments, and there are {have}", next_command="workbook data list"
        )
    if last.test_end > payments.end or plan.train_start < payments.first_day:
        raise TrainingError(
            f"the folds need payments from {_day(plan.train_start)} to {_day(last.test_end - 1)}, and there are those"
            f" from {_day(payments.first_day)} to {_day(payments.end - 1)}: --train-start can be"
            f" {_day(payments.first_day)} to {_day(latest)}"
        )


def known_compromised(before: LabelledRows, rows: LabelledRows, *, delay_days: int) -> NDArray[np.bool_]:
    """Which payments are by cards whose fraud was known by then.

    Known on a day are the frauds of all days more than the delay before it, from the first day of training on.

    Args:
        before: the payments since training began.
        rows: the payments of a test.
        delay_days: after how many days a fraud is known.
    """
    frauds = before.labels == 1
    cards = int(np.concatenate([before.groups, rows.groups]).max(initial=-1)) + 1
    first_fraud = np.full(cards, NEVER_REPORTED)
    np.minimum.at(first_fraud, before.groups[frauds], before.times[frauds])
    known_until = (rows.times // MICROS_PER_DAY - delay_days) * MICROS_PER_DAY
    known: NDArray[np.bool_] = first_fraud[rows.groups] < known_until
    return known


def payment_metrics(scores: Floats, rows: LabelledRows, *, drop_detected: bool) -> dict[str, float]:
    """How well scores order payments and cards, and whether they are probabilities."""
    ordered = Ordered.by(scores, rows.labels)
    days = rows.times // MICROS_PER_DAY
    k = model.CHECKED_CARDS
    found = model.card_precision_at(scores, rows.labels, rows.groups, days, k=k, drop_detected=drop_detected)
    return {
        "roc_auc": ordered.roc_auc(),
        "average_precision": ordered.average_precision(),
        f"card_precision@{k}": found,
        "expected_calibration_error": expected_calibration_error(scores, rows.labels),
        "brier": float(((scores - rows.labels) ** 2).mean()),
    }


def _span(start: int, end: int) -> Span:
    return Span(start=moment_of(start), end=moment_of(end))


def _day(time: int) -> str:
    return f"{moment_of(time):%Y-%m-%d}"

"""Schema watch: are records refused that would have been events before?

In: how many records of each topic were counted and refused so far, now and at the last look. Out: the difference, by
reason, with a verdict.
Invariant: a handful of broken records is no alarm; a version of the schema that nobody here knows is one at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from reference_system.events import Refusal

# What a producer that changed its records would do, not what one broken client does.
_LEAST_REFUSED = 10
_MATERIAL_SHARE = 0.01


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """A topic's records so far, and the refused ones since the last look by their reasons."""

    topic: str
    counted: int
    refused: int
    new: int = 0
    new_counted: int = 0
    reasons: dict[str, int] = {}

    @property
    def alarming(self) -> bool:
        """Whether a producer seems to have changed what it sends."""
        many = self.new >= _LEAST_REFUSED and self.new > _MATERIAL_SHARE * (self.new + self.new_counted)
        return many or Refusal.UNKNOWN_VERSION in self.reasons

    @property
    def text(self) -> str:
        """What there is to say about the new ones."""
        named = ", ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{self.new:,} records of {self.topic} refused since the last look" + (f" ({named})" if named else "")


def since(last: Sequence[Refusals], totals: Mapping[str, tuple[int, int]]) -> tuple[Refusals, ...]:
    """What is new since the last look; `totals` are (counted, refused) by topic, since the system was made."""
    before = {each.topic: each for each in last}
    found = []
    for topic, (counted, refused) in totals.items():
        earlier = before.get(topic, Refusals(topic=topic, counted=counted, refused=refused))
        found.append(
            Refusals(
                topic=topic,
                counted=counted,
                refused=refused,
                new=max(refused - earlier.refused, 0),
                new_counted=max(counted - earlier.counted, 0),
            )
        )
    return tuple(found)


def with_reasons(refusals: Refusals, reasons: Sequence[str]) -> Refusals:
    """The same with the reasons of its newest refused records, of which `reasons` holds at least the new ones."""
    return msgspec.structs.replace(refusals, reasons=dict(Counter(reasons[-refusals.new :])))

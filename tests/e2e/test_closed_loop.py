"""The closed loop on a live system: the world changes, nobody does anything, and the models recover."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import LiveSystem

# A week of event time takes 105 real seconds here; training, on a busy machine, as long again.
PATIENCE = 420.0
DAYS = 4
IN_ORDER = ["scenario", "alarm", "retraining", "gate", "shadow", "canary", "champion"]


def story_of(live: LiveSystem, *arguments: str) -> dict[str, Any]:
    ended = live.workbook("timeline", "fraud", *arguments, "--json", seconds=60)
    assert ended.returncode == 0, ended.stderr
    story: dict[str, Any] = json.loads(ended.stdout)
    return story


def steps_since_the_attack(story: dict[str, Any]) -> list[dict[str, Any]]:
    happenings = story["happenings"]
    begun = [number for number, each in enumerate(happenings) if each["text"] == "fraud-attack begins"]
    return list(happenings[begun[-1] :]) if begun else []


def is_over(steps: list[dict[str, Any]]) -> bool:
    kinds = [each["kind"] for each in steps]
    return "rolled back" in kinds or ("canary" in kinds and kinds[-1] == "champion")


def told(steps: list[dict[str, Any]]) -> str:
    return "\n".join(f"{each['event_timestamp']} {each['kind']} {each['version']} {each['reasons']}" for each in steps)


def days_that_show_the_recovery(story: dict[str, Any], new: str, old: str) -> list[tuple[float, float]]:
    """Average precision of the new and of the old champion on days from which neither learned."""
    return [
        (day["average_precision"][new], day["average_precision"][old])
        for day in story["fraud_days"]
        if {new, old} <= set(day["average_precision"]) and not {new, old} & set(day["learned_by"])
    ]


def test_an_attack_leads_to_a_champion_that_knows_it_without_a_further_command(live: LiveSystem) -> None:
    before = story_of(live)["happenings"]
    (old,) = {each["version"] for each in before if each["kind"] == "champion"}
    assert live.workbook("scenario", "start", "fraud-attack", seconds=60).returncode == 0
    try:
        deadline = time.monotonic() + PATIENCE
        story = story_of(live)
        while not is_over(steps_since_the_attack(story)) and time.monotonic() < deadline:
            time.sleep(2.0)
            story = story_of(live)
        steps = steps_since_the_attack(story)
        kinds = [each["kind"] for each in steps]
        assert kinds[-1] == "champion", told(steps)
        assert [kind for kind in dict.fromkeys(kinds) if kind in IN_ORDER] == IN_ORDER, told(steps)
        new = steps[-1]["version"]
        assert steps[-1]["previous"] == old
        # The next looks compare both champions on the same payments; one day of so small a world is mostly chance.
        while len(days := days_that_show_the_recovery(story, new, old)) < DAYS and time.monotonic() < deadline:
            time.sleep(2.0)
            story = story_of(live)
        assert len(days) >= DAYS, told(steps)
        ours, theirs = (sum(values) / len(days) for values in zip(*days, strict=True))
        assert ours > theirs + 0.05, days
    finally:
        assert live.workbook("scenario", "stop", "fraud-attack", seconds=60).returncode == 0

from __future__ import annotations

import pytest

from reference_system.workbook.quantities import (
    canonical_unit,
    is_bare_quantity,
    numbers_of_text,
    quantities_in,
)


@pytest.mark.parametrize(
    "text",
    [
        "100 ms",
        "100ms",
        "a 7-day delay",
        "within 0.1 %",
        "30d",
        "8,000,000 rows",
        "8M rows",
        "1.5 million viewers",
        "93 requests/s",
        "5 requests a second",
        "40 reads per request",
        "$5",
        "12 GB",
        "2000 ms",
        "12345",
        "16 bytes",
        "4 CPU-seconds",
        "3 cores",
        "between 20 and 40 ms",
        "20–40 ms",
        "half of 1,000",
    ],
)
def test_a_number_with_a_unit_or_of_four_digits_is_a_quantity(text: str) -> None:
    assert len(quantities_in(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "p99 and p50",
        "V0 to V2",
        "recall@20",
        "three tiers, 4 partitions and 15 inputs",
        "since 2017",
        "2025-01-06 and 2025-01",
        "at 10:30",
        "feast 0.67.0",
        "HTTP 429 or 5xx",
        "float32 on x86",
        "section 3.1",
        "customer c000001",
        "ISO 8601 and RFC 9110",
        "k = 20",
        "seven days",
        "24/7",
    ],
)
def test_counts_names_dates_and_versions_are_no_quantities(text: str) -> None:
    assert quantities_in(text) == []


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("250k predictions", 250_000, None),
        ("1.2M", 1_200_000, None),
        ("5 billion runs", 5e9, None),
        ("16 B", 16, "bytes"),
        ("16B", 16e9, None),
        ("8,000,000", 8_000_000, None),
        ("0.1%", 0.1, "%"),
        ("20 milliseconds", 20, "ms"),
        ("12 KB", 12, "kB"),
        ("93 requests/s", 93, "requests/s"),
        ("$20", 20, "$"),
    ],
)
def test_suffixes_separators_and_units_are_read(text: str, value: float, unit: str | None) -> None:
    (number,) = numbers_of_text(text)
    assert (number.value, number.unit) == (pytest.approx(value), unit)


@pytest.mark.parametrize(
    ("text", "value"),
    [("93", 92.6), ("92.6", 92.59), ("1.2k", 1_204), ("8M", 8_300_000), ("28,000", 27_778), ("7", 6.94), ("0", 0)],
)
def test_a_rounded_number_states_the_value(text: str, value: float) -> None:
    (number,) = numbers_of_text(text)
    assert number.states(value)


@pytest.mark.parametrize(("text", "value"), [("100", 97), ("93", 95), ("92.6", 94), ("8.0M", 8_300_000), ("0", 0.4)])
def test_a_number_beyond_rounding_does_not_state_the_value(text: str, value: float) -> None:
    (number,) = numbers_of_text(text)
    assert not number.states(value)


def test_a_code_span_that_is_only_a_quantity_is_recognised() -> None:
    assert is_bare_quantity("100 ms")
    assert is_bare_quantity("93 requests/s")
    assert not is_bare_quantity("--label-delay 7d")
    assert not is_bare_quantity("3000")


@pytest.mark.parametrize(
    ("unit", "measure"),
    [("ms", "ms"), ("ms/request", "ms"), ("GB a day", "GB"), ("requests/s", "requests/s"), ("transactions/day", None)],
)
def test_the_measure_of_a_unit_is_its_first_word(unit: str, measure: str | None) -> None:
    assert canonical_unit(unit) == measure

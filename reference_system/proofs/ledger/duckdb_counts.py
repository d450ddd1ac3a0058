"""The ledger of one topic: compares the recount with the lake, the dead letters and the totals.

In: the tables of `proofs/ledger/duckdb_recount.py` and the tasks' totals. Out: the topic's line and every difference.
Invariant: each record below the offsets that the state has is in exactly one of four sets: counted, late,
dead-lettered, duplicate; each set equals that of the lake, the dead-letter topic and the totals.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reference_system.event_time import micros
from reference_system.events import Topic
from reference_system.features.stream.deduplication import Outcome
from reference_system.lake.delta_upkeep import Dropped
from reference_system.proofs.ledger.duckdb_recount import Duck, PartitionSpan, fields_of
from reference_system.proofs.ledger.report import EXAMPLES, LedgerProblem, TopicLedger, problem

# A state can be rebuilt from the topics; lost rows of the lake and lost records of the log cannot.
REBUILD = "workbook state rebuild"
_CLEAN = "make clean"
_LIST = "workbook dead-letter list"

_MISSING = """
    SELECT place(v.id, v.part, v."off") FROM verdict v JOIN span USING (part) LEFT JOIN lake l USING (part, "off")
    WHERE v.verdict <> 'duplicate' AND v."off" < read_to AND l.part IS NULL
    AND NOT EXISTS (FROM aged a WHERE a.part = v.part AND a."off" = v."off")
"""
_EXTRA = """
    SELECT place(l.id, l.part, l."off") || CASE WHEN v.part IS NOT NULL THEN ' (a duplicate)'
        WHEN r.dead THEN ' (also a dead letter)' WHEN r.part IS NULL THEN ' (no such record)' ELSE '' END
    FROM lake l JOIN span USING (part) LEFT JOIN verdict v USING (part, "off") LEFT JOIN raw r USING (part, "off")
    WHERE l."off" >= read_from AND l."off" < read_to AND coalesce(v.verdict, 'duplicate') = 'duplicate'
"""
_DOUBLE = """
    SELECT place(id, part, "off") FROM lake QUALIFY row_number() OVER (PARTITION BY part, "off") > 1
"""
# All values of a row are compared only where hashes differ: comparing those of every row took most of the ledger.
_SUSPECTS = """
    CREATE OR REPLACE TEMP TABLE suspects AS
    WITH mine AS (SELECT part, "off", hash({fields}) AS h FROM lake),
    theirs AS (SELECT part, "off", hash({fields}) AS h FROM raw)
    SELECT DISTINCT part, "off" FROM mine JOIN theirs USING (part, "off") WHERE mine.h <> theirs.h
"""
_CHANGED = """
    SELECT place(r.id, r.part, r."off") FROM suspects JOIN lake l USING (part, "off") JOIN raw r USING (part, "off")
    JOIN span USING (part) JOIN verdict v USING (part, "off")
    WHERE v.verdict <> 'duplicate' AND r."off" < read_to AND (differs)
"""
_LATE = """
    SELECT place(v.id, v.part, v."off") FROM lake l JOIN verdict v USING (part, "off") JOIN span USING (part)
    WHERE v.verdict <> 'duplicate' AND v."off" < read_to AND (v.verdict = 'late') <> l.late
"""
_NOT_REFUSED = """
    SELECT place(NULL, r.part, r."off") FROM raw r JOIN span USING (part) LEFT JOIN verdict v USING (part, "off")
    WHERE NOT r.dead AND v.part IS NULL AND r."off" < read_to
"""
_REFUSED_OTHERWISE = """
    SELECT place(NULL, part, "off") FROM raw JOIN span USING (part) WHERE dead AND NOT same AND "off" < read_to
"""
_REFUSED_NOTHING = """
    SELECT place(NULL, d.part, d."off") FROM dead d LEFT JOIN span USING (part)
    WHERE span.log_end IS NULL OR d."off" >= span.log_end
"""
_GAPS = """
    SELECT 'partition ' || part || ': ' || (expected - found) || ' of ' || expected FROM (
        SELECT part, greatest(read_to - read_from, 0) AS expected, (
            SELECT count(*) FROM raw WHERE raw.part = span.part AND raw."off" < read_to) AS found
        FROM span) WHERE expected <> found
"""
_MISSED, _ADDED, _TWICE = (
    "accepted by the recount and not in the lake",
    "in the lake and not accepted by the recount",
    "more than once in the lake",
)
_DIFFERENCES = (
    (_MISSED, _MISSING, _CLEAN),
    (_ADDED, _EXTRA, _CLEAN),
    (_TWICE, _DOUBLE, _CLEAN),
    ("in the lake with other values than its record", _CHANGED, _CLEAN),
    ("late in the recount or in the lake, but not in both", _LATE, _CLEAN),
    ("no event, and not on the dead-letter topic", _NOT_REFUSED, _LIST),
    ("on the dead-letter topic with other bytes or another key than its record", _REFUSED_OTHERWISE, _LIST),
    ("a dead letter of a record that does not exist", _REFUSED_NOTHING, _LIST),
    ("read by the state and not held by the broker", _GAPS, _CLEAN),
)
# Records that the broker still has and whose rows the lake may have dropped, because it dropped their day.
_AGED = """
    CREATE OR REPLACE TEMP TABLE aged AS
    SELECT v.part, v."off", v.verdict FROM verdict v JOIN raw r USING (part, "off") JOIN span USING (part)
    LEFT JOIN lake l USING (part, "off")
    WHERE v.verdict <> 'duplicate' AND v."off" < read_to AND l.part IS NULL
    AND greatest(r.event_timestamp, r."{known}") < {before}
"""
# Records that retention removed are counted from the lake, the dead letters and the lake's count of dropped rows; the
# rest were duplicates. Dropped rows whose records still exist are already in `verdict`.
_GONE = """
    SELECT part, CASE WHEN late THEN 'late' ELSE 'counted' END AS verdict, "rows" AS n FROM dropped
    UNION ALL SELECT part, verdict, -count(*) FROM aged GROUP BY ALL
"""
_SETS = f"""
    WITH gone AS ({_GONE})
    SELECT part, verdict, count(*) FROM (
        SELECT part, verdict FROM verdict JOIN span USING (part) WHERE "off" < read_to
        UNION ALL SELECT part, 'dead_lettered' FROM dead JOIN span USING (part) WHERE "off" < read_to
        UNION ALL SELECT part, CASE WHEN late THEN 'late' ELSE 'counted' END FROM removed
    ) GROUP BY ALL
    UNION ALL SELECT part, verdict, sum(n)::BIGINT FROM gone GROUP BY ALL HAVING sum(n) <> 0
    UNION ALL
    SELECT part, 'duplicate', least(read_from, read_to) - (SELECT count(*) FROM removed r WHERE r.part = span.part)
        - (SELECT count(*) FROM dead d WHERE d.part = span.part AND d."off" < least(read_from, read_to))
        - (SELECT coalesce(sum(n), 0)::BIGINT FROM gone g WHERE g.part = span.part)
    FROM span WHERE read_from > 0
"""


def topic_ledger(
    duck: Duck, topic: Topic, spans: Sequence[PartitionSpan], totals: Mapping[tuple[int, str], int], dropped: Dropped
) -> tuple[TopicLedger, list[LedgerProblem]]:
    """The topic's line and its problems.

    Args:
        duck: with the tables of `proofs/ledger/duckdb_recount.py`.
        topic: the topic of the tables.
        spans: its partitions.
        totals: (task, outcome) → events, as recorded by the tasks.
        dropped: the rows of old days that the lake dropped.
    """
    _name_tables(duck, topic)
    duck.execute(_AGED.format(known=topic.known_field, before=micros(dropped.before)))
    differs = " OR ".join(f'l."{name}" IS DISTINCT FROM r."{name}"' for name in fields_of(topic))
    duck.execute(_SUSPECTS.format(fields=", ".join(f'"{name}"' for name in fields_of(topic))))
    found = {
        kind: _found(duck, topic, kind, query.replace("differs", differs), then) for kind, query, then in _DIFFERENCES
    }
    sets: dict[tuple[int, str], int] = {}
    for part, verdict, count in duck.sql(_SETS).fetchall():
        sets[part, verdict] = sets.get((part, verdict), 0) + count
    problems = [each for kind in found.values() for each in kind] + _totals(topic, sets, totals)

    def size(outcome: Outcome) -> int:
        return sum(count for (_, each), count in sets.items() if each == outcome)

    line = TopicLedger(
        topic=topic.name,
        acknowledged=sum(span.read_to for span in spans),
        counted=size(Outcome.COUNTED),
        late=size(Outcome.LATE),
        dead_lettered=size(Outcome.DEAD_LETTERED),
        duplicates=size(Outcome.DUPLICATE),
        missing=sum(each.count for each in found[_MISSED]),
        extra=sum(each.count for each in found[_ADDED]),
        double=sum(each.count for each in found[_TWICE]),
        waiting=sum(max(span.log_end - span.read_to, 0) for span in spans),
        removed=sum(min(span.read_from, span.read_to) for span in spans),
        dropped=sum(dropped.rows.values()),
    )
    return line, problems


def _name_tables(duck: Duck, topic: Topic) -> None:
    """Create views of the topic's tables under the names that the queries use, with `id` and the macro `place`."""
    for kind in ("raw", "lake", "verdict", "dead"):
        identity = f', "{topic.event_id}" AS id' if kind in ("raw", "lake") else ""
        duck.execute(f'CREATE OR REPLACE TEMP VIEW {kind} AS SELECT *{identity} FROM "{kind}_{topic.name}"')
    duck.execute(f'CREATE OR REPLACE TEMP VIEW dropped AS FROM "dropped_{topic.name}"')
    duck.execute("""
        CREATE OR REPLACE TEMP VIEW removed AS
        SELECT DISTINCT part, "off", late FROM lake JOIN span USING (part) WHERE "off" < least(read_from, read_to)
    """)
    duck.execute(
        f"CREATE OR REPLACE TEMP MACRO place(id, part, \"off\") AS coalesce(id || ' at ', '')"
        f" || '{topic.name}/' || part || '/' || \"off\""
    )


def _found(duck: Duck, topic: Topic, kind: str, query: str, then: str) -> list[LedgerProblem]:
    rows = duck.sql(
        f"SELECT example, count(*) OVER () FROM ({query}) AS found(example) ORDER BY 1 LIMIT {EXAMPLES}"
    ).fetchall()
    return problem(kind, topic.name, [example for example, _ in rows], rows[0][1] if rows else 0, then=then)


def _totals(
    topic: Topic, sets: Mapping[tuple[int, str], int], totals: Mapping[tuple[int, str], int]
) -> list[LedgerProblem]:
    found = [
        f"task {part} {outcome} {totals.get((part, outcome), 0):,} (recount {sets.get((part, outcome), 0):,})"
        for part, outcome in sorted(sets.keys() | totals.keys())
        if totals.get((part, outcome), 0) != sets.get((part, outcome), 0)
    ]
    return problem("totals that differ from the recount", topic.name, found, then=REBUILD)

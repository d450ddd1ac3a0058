"""`workbook recommend`: a list of items for every user of a dataset, as a file.

In: a dataset. Out: Parquet or CSV with `user_id, item_id, rank, score`, ids of the types that they were imported with.
Invariant: every user has k items, or all that there are; ranks begin at 1 and scores fall; a file is replaced whole.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.terminal.table_files import require_table, write_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from reference_system.training.recommendation.recommenders.ranked_lists import Lists

app = typer.Typer()


class WrittenLists(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; `parameters` are the model's, `validation` what each kind reached where items were hidden."""

    dataset: str
    file: str
    model: str
    parameters: dict[str, float]
    users: int
    items: int
    rows: int
    users_with_fewer: int
    exclude_seen: bool
    validation: dict[str, dict[str, float]]
    notes: tuple[str, ...]
    seconds: float


@app.command("recommend")
def recommend(  # noqa: PLR0913 - the options of the verb
    *,
    out: Annotated[Path, typer.Option("--out", help="The file to write: .parquet, .csv or .tsv, also .csv.gz.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="An imported dataset, or live.")] = "live",
    k: Annotated[int, typer.Option("--k", min=1, max=1_000, help="How many items for each user.")] = 10,
    exclude_seen: Annotated[bool, typer.Option("--exclude-seen", help="Leave out what a user took already.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="One kind, such as item_knn.", show_default="best"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is hidden to choose by.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Recommend items to every user, by the kind of recommender that is best at guessing hidden ones."""
    begun = monotonic()
    require_table(out)
    table, done = _recommended(dataset, out, k=k, exclude_seen=exclude_seen, model=model, seed=seed)
    write_table(out, table)
    done = msgspec.structs.replace(done, seconds=round(monotonic() - begun, 2))
    if as_json:
        typer.echo(msgspec.json.encode(done))
        return
    typer.echo(f"{done.file}: {done.rows:,} rows, {done.users:,} users, by {done.model} in {done.seconds} s")
    for note in done.notes:
        typer.echo(f"  {note}")


def _recommended(  # noqa: PLR0913 - what the verb was asked for
    dataset: str, out: Path, *, k: int, exclude_seen: bool, model: str | None, seed: int
) -> tuple[pa.Table, WrittenLists]:
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.errors import TrainingError
    from reference_system.lake.datasets import LIVE, dataset_for
    from reference_system.settings import load_settings

    paths, _ = dataset_for(load_settings(), dataset, "recommendation")
    from reference_system.training.recommendation.recommenders.interactions import (
        history_of,
        read_interactions,
    )
    from reference_system.training.recommendation.recommenders.ranked_lists import NO_ITEM, all_lists
    from reference_system.training.recommendation.recommenders.search import (
        KINDS,
        choose,
        fit_recommender,
        limits_of,
    )

    rows = read_interactions(paths.lake, live=dataset == LIVE)
    if model is not None and model not in KINDS:
        raise TrainingError(f"there is no recommender {model!r} (there are {', '.join(KINDS)})")
    with progress_bar() as progress:
        choice = choose(
            rows, ["newest", "random"], k=k, seed=seed, progress=lambda share, text: progress(0.8 * share, text)
        )
        kind = model or choice.best
        progress(0.8, f"learning {kind} from {len(rows):,} interactions")
        history = history_of(rows)
        fitted = fit_recommender(kind, history, choice)
        lists = all_lists(
            fitted, history, k=k, exclude_seen=exclude_seen, tell=lambda share: progress(0.9 + 0.1 * share, "ranking")
        )
    table = table_of(lists, rows.user_ids, rows.item_ids, dataset)
    fewer = int((lists.items == NO_ITEM).any(axis=1).sum()) if lists.items.shape[1] == k else len(lists.users)
    return table, WrittenLists(
        dataset=dataset,
        file=str(out),
        model=kind,
        parameters=dict(fitted.parameters),
        users=len(rows.user_ids),
        items=len(rows.item_ids),
        rows=table.num_rows,
        users_with_fewer=fewer,
        exclude_seen=exclude_seen,
        validation={kind: dict(found) for kind, found in choice.worth.items()},
        notes=(choice.note, *limits_of(history), *_short(fewer, k)),
        seconds=0.0,
    )


def table_of(lists: Lists, user_ids: NDArray[np.str_], item_ids: NDArray[np.str_], dataset: str) -> pa.Table:
    """The lists as rows, in the order of users and ranks, with ids of the types that they were imported with."""
    import numpy as np
    import pyarrow as pa

    from reference_system.commands.terminal.table_files import with_own_types
    from reference_system.lake.datasets import LIVE, read_dataset_manifest
    from reference_system.settings import load_settings
    from reference_system.training.recommendation.recommenders.ranked_lists import NO_ITEM

    real = lists.items != NO_ITEM
    place, column = np.nonzero(real)
    # Out of a dictionary: a user's id stands there once, however many rows it has.
    users = pa.DictionaryArray.from_arrays(pa.array(lists.users[place]), pa.array(user_ids.tolist()))
    items = pa.DictionaryArray.from_arrays(pa.array(lists.items[real]), pa.array(item_ids.tolist()))
    table = pa.table(
        {
            "user_id": users.dictionary_decode(),
            "item_id": items.dictionary_decode(),
            "rank": column + 1,
            "score": lists.scores[real].astype(np.float64),
        }
    )
    table = with_own_types(table, None if dataset == LIVE else read_dataset_manifest(load_settings(), dataset))
    return table.sort_by([("user_id", "ascending"), ("rank", "ascending")])


def _short(fewer: int, k: int) -> list[str]:
    return [f"{fewer:,} users have fewer than {k} items: there are no more for them"] if fewer else []

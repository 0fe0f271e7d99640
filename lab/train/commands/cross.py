"""`tamis lab probe cross`: teaches a sentence encoder to read question and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tamis.compressors.registry import CROSS_ENCODERS, DEFAULT_ENCODER, ENGLISH_RANK_ENCODER
from tamis.service.cli.display.output import report_errors

_ALL, _CANDIDATES = 1_000_000, 20
TEACHERS = (DEFAULT_ENCODER, ENGLISH_RANK_ENCODER)
EPILOG = """
**Examples**

`tamis lab probe cross --rankings rankings/ --data hotpotqa.jsonl.gz --data squad2.jsonl.gz:2000
--out cross/` learns from all ranking sets of a folder and from labelled records

`tamis lab probe cross --rankings rankings/ --out cross/ --steps 200` the same command goes on where
it was stopped

Ranking sets are those of `tamis lab bench ranking`, records those of `tamis lab probe train`. Every
fifth question of a ranking set is held out, and judges. On two cores with AMX a step of 128 pairs
takes four seconds; a thousand steps reach what larger encoders know.
"""


@report_errors()
def cross(
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for weights, card and checkpoint; resumes if begun."),
    ],
    rankings: Annotated[
        list[Path] | None,
        typer.Option("--rankings", help="A folder of ranking sets. Repeatable."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Labelled records, maybe as FILE:LIMIT. Repeatable."),
    ] = None,
    sets: Annotated[str | None, typer.Option(help="Of the ranking sets those, by commas.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimizer, of 128 pairs each.")] = 1000,
    rank: Annotated[int, typer.Option(min=1, help="Of each adapter.")] = 48,
    every: Annotated[int, typer.Option(min=1, help="Steps between two judgements.")] = 100,
    judge: Annotated[int, typer.Option(min=1, help="Held-out questions that judge.")] = 60,
) -> None:
    """Teach `minilm-l6` to read question and passage together, as `method="cross"` does.

    Its teachers are two sentence encoders, `ms-marco-minilm-l12` and the judgements; `tamis models
    pull` fetches them. What is written goes to
    `probes/model/weights/cross.minilm-l6.safetensors` of a tamis of your own.
    """
    from tamis.probes.errors import BadInput
    from tamis.probes.hub.zoo import locate
    from tamis.probes.model.cross_encoder import CrossEncoder
    from tamis.probes.model.encoder import CachedEncoder, Encoder
    from tamis_lab.bench.ranking import choose_sets, find_ranking_sets, load_ranking_set
    from tamis_lab.datasets.record_files import RecordFile, answerable_records, describe_file
    from tamis_lab.options.bars import file_bars
    from tamis_lab.options.shared import parse_record_file
    from tamis_lab.train.cross import lists, training
    from tamis_lab.train.cross.student import CrossStudent

    pool, held_out, used = lists.Pool(), list[tuple[Any, Any]](), list[dict[str, Any]]()
    chosen_sets = choose_sets(find_ranking_sets(rankings), sets, _ALL) if rankings else []
    for files in chosen_sets:
        of = load_ranking_set(files, "bm25", _CANDIDATES)
        before = len(pool.questions)
        held_out += [(query, of.documents) for query in pool.add_queries(of.queries, of.documents)]
        used.append(describe_file(RecordFile(files.queries), len(pool.questions) - before))
    for source in map(parse_record_file, data or ()):
        records = answerable_records(source)
        pool.add_records(records)
        used.append(describe_file(source, len(records)))
    if not pool.questions or not held_out:
        raise BadInput(
            f"there are {len(pool.questions)} questions to learn from and {len(held_out)} held out "
            "of ranking sets; give --rankings FOLDER with a queries and a corpus file"
        )
    folder = locate(DEFAULT_ENCODER)
    own, larger = (
        CachedEncoder(Encoder.from_folder(locate(name)), max_bytes=1 << 30) for name in TEACHERS
    )
    published = CrossEncoder.from_folder(locate(CROSS_ENCODERS[1]))
    recipe = training.CrossRecipe(rank=rank, steps=steps)
    student = CrossStudent(folder, rank)
    lists_to_judge = held_out[:judge]
    with file_bars() as report:
        chosen = lists.choose_passages(pool, own)
        teachers = [(own, (0.1, 0.1)), (larger, (0.225, 0.175)), (published, (0.5,))]
        targets = lists.keep(
            out / "targets.safetensors",
            lists.digest(pool, chosen),
            lambda: lists.teach(pool, chosen, teachers, report),
        )
        targets = targets + recipe.grade * lists.grade_targets(pool, chosen)
        curve = training.train(
            student,
            pool,
            chosen,
            targets,
            recipe,
            out,
            lambda student: training.mean_ndcg(student, lists_to_judge),
            every,
            report,
        )
    weights = out / f"cross.{DEFAULT_ENCODER}.safetensors"
    training.export(student, weights, DEFAULT_ENCODER, recipe, used, {"curve": curve})
    Console(width=None if Console().is_terminal else 120).print(_curve_table(curve))
    Console(stderr=True).print(f"wrote {weights}")


def _curve_table(curve: Sequence[dict[str, Any]]) -> Table:
    table = Table("steps", "loss", "nDCG@10, held out")
    for row in curve:
        table.add_row(*map(str, row.values()))
    return table

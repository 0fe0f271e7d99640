"""`tamis index optimise`: makes an index quick to search."""

from __future__ import annotations

import time

from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.index_results import optimising_progress
from tamis.service.cli.display.text import print_note
from tamis.service.cli.options import compress_options as opt
from tamis.service.cli.options.index_options import Folder, Proxy, Questions, Structure
from tamis.service.cli.options.model_folder import RootFolder, models_folder

EPILOG = """
**Examples**

`tamis index optimise docs.index` merges segments; one with 400,000 keys or more gets a graph

`tamis index optimise docs.index --questions asked.txt` builds the graph for questions like yours

`tamis index optimise docs.index --search ivf` takes FAISS's IVF instead (pip install
"tamis[retrieval]"), `--search exact` neither
"""


@report_errors()
def optimise(
    index: Folder,
    search: Structure = "auto",
    questions: Questions = None,
    proxy: Proxy = None,
    quiet: opt.Quiet = False,
    root: RootFolder = None,
) -> None:
    """Merge segments, and make large ones quick to search.

    A graph over the keys leads a search to those that promise most, so that it reads a small share
    of them. Searches go on meanwhile, in the old state.
    """
    from tamis.retrieval.index.store import CorpusIndex
    from tamis.service.api.index import optimise_index

    started = time.perf_counter()
    held = CorpusIndex.open(index).stats()
    keys = held["tokens"] * len(held["heads"] or ())
    with optimising_progress(keys, quiet) as report:
        optimise_index(
            index,
            search,
            questions=questions,
            proxy=proxy,
            root=models_folder(root),
            report=report,
        )
    if not quiet:
        now = CorpusIndex.open(index).stats()
        kinds = ", ".join(f"{count} {kind}" for kind, count in now["searches"].items())
        print_note(
            f"{index}: {now['tokens']:,} keys in {now['segments']} segments ({kinds}), built in "
            f"{time.perf_counter() - started:.1f} s"
        )

"""`tamis lab bench`: the commands that measure."""

from __future__ import annotations

import typer

from tamis_lab.bench.commands import (
    answers,
    break_even,
    depth,
    documents,
    domains,
    evidence,
    hops,
    languages,
    needle,
    peers,
    places,
    prefill,
    readings,
    rerank,
    retrieval,
    run,
    search,
    selectors,
    sinks,
    speed,
    thin,
    tools,
)
from tamis_lab.options.bench_options import RECORDS

app = typer.Typer(help="Measure how much evidence methods keep.", no_args_is_help=True)
app.command("speed", epilog=speed.EPILOG)(speed.speed)
app.command("run", epilog=RECORDS)(run.run_records)
app.command("evidence", epilog=RECORDS)(evidence.evidence)
app.command("answers", epilog=answers.EPILOG)(answers.answers)
app.command("break-even", epilog=break_even.EPILOG)(break_even.break_even)
app.command("depth", epilog=depth.EPILOG)(depth.depth)
app.command("documents", epilog=documents.EPILOG)(documents.documents)
app.command("domains", epilog=domains.EPILOG)(domains.domains)
app.command("hops", epilog=hops.EPILOG)(hops.hops)
app.command("languages", epilog=languages.EPILOG)(languages.languages)
app.command("needle", epilog=needle.EPILOG)(needle.needle)
app.command("peers", epilog=peers.EPILOG)(peers.peers)
app.command("places", epilog=places.EPILOG)(places.places)
app.command("prefill", epilog=prefill.EPILOG)(prefill.prefill)
app.command("readings", epilog=readings.EPILOG)(readings.readings)
app.command("rerank", epilog=rerank.EPILOG)(rerank.rerank)
app.command("retrieval", epilog=retrieval.EPILOG)(retrieval.retrieval)
app.command("search", epilog=search.EPILOG)(search.search)
app.command("selectors", epilog=selectors.EPILOG)(selectors.selectors)
app.command("sinks", epilog=sinks.EPILOG)(sinks.sinks)
app.command("thin", epilog=thin.EPILOG)(thin.thin)
app.command("tools", epilog=tools.EPILOG)(tools.tools)

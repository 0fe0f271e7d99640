"""`tamis lab fit-codec`: fits how a model's passages are kept in few bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tamis.service.cli.display.output import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_probe_target
from tamis_lab.options.shared import SHARP, Data, ProxyName, parse_record_file

EPILOG = """
**Examples**

`tamis lab fit-codec --data hotpotqa.jsonl.gz:20 --data manuals.jsonl.gz:20 --proxy NAME
--out NAME.safetensors`, then `PassageCache(storage="thin", codec="NAME.safetensors")`

Records are of the kind that `tamis lab probe train` takes; their answers are not used. Some hundred
passages of many kinds are enough. The default proxy has a codec already.
"""


@report_errors()
def fit(
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the codec (.safetensors and .json).")
    ],
    proxy: ProxyName = SHARP,
    bits: Annotated[float, typer.Option(help="Of a component of keys and values.")] = 2.2,
    language: Annotated[str, typer.Option(help="Of the records, for finding sentences.")] = "en",
    seed: Annotated[int, typer.Option(help="Of passages and tokens.")] = 0,
) -> None:
    """Fit a codec: passages of a model in some 2 bits a component, at little loss."""
    from tamis.compressors import registry
    from tamis.probes.hub import zoo
    from tamis_lab.datasets.record_files import describe_file, name_distinctly
    from tamis_lab.train.codec.fitting import check_bits, fit_codec
    from tamis_lab.train.codec.samples import read_samples, rotation_rates

    check_probe_target(out)
    check_bits(bits)
    files = name_distinctly([parse_record_file(name) for name in data])
    # on the processor, in its own numbers: a codec is fitted in a minute
    layers = registry.layers_needed(registry.DEFAULT, proxy)
    reader = zoo.load_proxy(proxy, layers=layers, device="cpu")
    rates = rotation_rates(reader)
    with file_bars() as report:
        samples = read_samples(reader, files, language, seed, report)
    trained_on = [describe_file(file, file.limit) for file in files]
    opening = len(reader.layout.opening)
    codec = fit_codec(samples, reader.card, opening, rates, bits, trained_on)
    codec.save(out)
    size, card = codec.card.figures["bytes"], codec.card
    Console(stderr=True).print(
        f"wrote {out}: {card.layers} layers of {card.model} in {size:,} bytes a token, fitted on "
        f"{card.tokens:,} tokens"
    )

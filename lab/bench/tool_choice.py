"""`bench tool-choice`: the tool that was called, found among hundreds of definitions.

BFCL v4 (Patil et al., ICML 2025), live_multiple: each request with all distinct functions of the
set for tools, and live_irrelevance, whose requests none of their functions fits. MetaTool (Huang et
al., ICLR 2024): requests for one of 199 tools.

Half of the tools, by a hash of their names, are for fitting: requests that call them, and half of
those of live_irrelevance. The figures are of the other half.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.features.scales import z_scores
from tamis.compressors.registry import DEFAULT_ENCODER, SMALL_RANK_ENCODER
from tamis.probes.errors import BadInput
from tamis.probes.hub.zoo import locate
from tamis.probes.model.encoder import CachedEncoder, Encoder
from tamis.service.api.rank_tools import (
    ENGLISH,
    MULTILINGUAL,
    THRESHOLD,
    WORDS,
    ToolDefinition,
    ToolRanker,
    ToolWeights,
    read_tools,
    user_turns,
)
from tamis.service.cli.display.output import report_errors
from tamis.text.terms import cached_words
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench tool-choice --bfcl gorilla/berkeley-function-call-leaderboard/bfcl_eval/data
--metatool MetaTool/dataset`

`tamis lab bench tool-choice --bfcl DATA --metatool DATA --fit` fits the weights anew, on the other
half

The data are those of github.com/ShishirPatil/gorilla and github.com/HowieHwong/MetaTool.
"""
DEPTHS = (1, 5, 12)
_VIEWS = {"minilm": ENGLISH, "e5": MULTILINGUAL, "words": WORDS}
_DRAWN, _LEAST_LIST, _MOST_LIST = 500, 4, 30
_VERDICTS = 3.0
"""What the verdicts weigh against the order in a fit."""
_DECAY = 2e-4


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, with definitions of tools; `called` is the place of the one that was.

    Attributes:
        judged: whether figures are of it, and no fit.
    """

    asked: str
    tools: Sequence[ToolDefinition]
    called: int | None
    judged: bool


@report_errors()
def tool_choice(
    bfcl: Annotated[Path, typer.Option(help="The folder of BFCL's data.")],
    metatool: Annotated[Path, typer.Option(help="The folder `dataset` of MetaTool.")],
    limit: Annotated[int, typer.Option(min=2, help="Requests of MetaTool, drawn.")] = 2000,
    fit: Annotated[
        bool, typer.Option("--fit", help="Fit the weights anew, and judge them.")
    ] = False,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
) -> None:
    """Choose among hundreds of tools: recall of the one that was called, and abstention."""
    study = Study(as_json)
    asked, irrelevant = read_bfcl(bfcl), read_irrelevant(bfcl)
    pools = {"bfcl": pooled(asked), "metatool": read_metatool(metatool, limit, seed)}
    lists = {"called": asked, "irrelevant": irrelevant, **taken_out(asked, pools, seed)}
    with study.bars():
        views = {name: View.of(name, pools, lists, study) for name in _VIEWS}
        weights = {n: fitted(view, pools, lists) if fit else _VIEWS[n] for n, view in views.items()}
        facts = {
            "weights": {n: repr(one) for n, one in weights.items()} if fit else {},
            "recall": recall_figures(views, weights, pools, seed),
            "verdict": {n: verdict_figures(views[n], weights[n], lists) for n in views},
        }
    sizes = {name: (len(pool[0].tools), len(pool)) for name, pool in pools.items()}
    study.publish(facts, lambda: _tables(facts, sizes))


def _tables(facts: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]]) -> Iterator[Any]:
    for name, (tools, requests) in sizes.items():
        rows = [
            [method, *(f"{one[f'{part}@{k}']:.3f}" for part in ("judged", "all") for k in DEPTHS)]
            for method, one in facts["recall"][name]["methods"].items()
        ]
        gain = facts["recall"][name]["minilm - MiniLM @12"]
        columns = ["method", *(f"{part} @{k}" for part in ("judged", "all") for k in DEPTHS)]
        interval = f"[{gain['low']:+.3f}, {gain['high']:+.3f}]"
        title = (
            f"{name}: {tools} tools, {requests} requests; recall. tamis (minilm) less MiniLM @12, "
            f"judged half: {gain['difference']:+.3f} {interval}"
        )
        yield table(title, columns, rows)
    columns = ["verdict", "AUROC", "called: fits", "irrelevant: none fits", "taken out: AUROC"]
    rows = [
        [n, *(f"{one[k]:.3f}" for k in ("auroc", "accepted", "abstained", "auroc_taken_out"))]
        for n, one in facts["verdict"].items()
    ]
    yield table(f"judged half of live_multiple and live_irrelevance, at {THRESHOLD}", columns, rows)
    if facts["weights"]:
        yield table("fitted", ["view", "weights"], [list(one) for one in facts["weights"].items()])


def is_judged(name: str) -> bool:
    """Whether requests for a tool are judged, and not fitted on."""
    return hashlib.sha256(name.encode()).digest()[0] % 2 == 1


def _rows(file: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise BadInput(
            f"{file} cannot be read ({error.strerror}); give the folder of it"
        ) from error


def read_bfcl(folder: Path) -> list[Request]:
    """The requests of live_multiple, each with its own functions."""
    answers = {
        row["id"]: next(iter(row["ground_truth"][0]))
        for row in _rows(folder / "possible_answer/BFCL_v4_live_multiple.json")
    }
    found = []
    for row in _rows(folder / "BFCL_v4_live_multiple.json"):
        tools, name = read_tools(row["function"]), answers[row["id"]]
        called = [tool.name for tool in tools].index(name)
        found.append(Request(_asked(row), tools, called, is_judged(name)))
    return found


def read_irrelevant(folder: Path) -> list[Request]:
    """The requests of live_irrelevance that have functions and text."""
    rows = _rows(folder / "BFCL_v4_live_irrelevance.json")
    found = [
        Request(_asked(row), read_tools(row["function"]), None, is_judged(row["id"]))
        for row in rows
    ]
    return [one for one in found if one.tools and one.asked.strip()]


def _asked(row: Mapping[str, Any]) -> str:
    return "\n".join(user_turns(row["question"][0]))


def pooled(requests: Sequence[Request]) -> list[Request]:
    """The same requests, each with the functions of all; of one name the first counts."""
    pool = {tool.name: tool for one in reversed(requests) for tool in reversed(one.tools)}
    tools, places = list(pool.values()), {name: i for i, name in enumerate(pool)}
    return [
        Request(one.asked, tools, places[one.tools[one.called or 0].name], one.judged)
        for one in requests
    ]


def read_metatool(folder: Path, limit: int, seed: int) -> list[Request]:
    """Some requests of MetaTool, each with all tools."""
    file = folder / "plugin_des.json"
    try:
        described = json.loads(file.read_text("utf-8"))
        rows = list(csv.DictReader((folder / "data/all_clean_data.csv").open(encoding="utf-8")))
    except OSError as error:
        raise BadInput(
            f"{error.filename} cannot be read; give the folder of {file.name}"
        ) from error
    tools = read_tools([{"name": n, "description": text} for n, text in described.items()])
    places = {tool.name: i for i, tool in enumerate(tools)}
    random.Random(seed).shuffle(rows)
    return [
        Request(row["Query"], tools, places[row["Tool"]], is_judged(row["Tool"]))
        for row in rows[:limit]
    ]


def taken_out(
    asked: Sequence[Request], pools: Mapping[str, Sequence[Request]], seed: int
) -> dict[str, list[Request]]:
    """Lists with the tool that was called, and the same without it."""
    draw = np.random.default_rng(seed)
    without = [
        Request(
            one.asked, [t for i, t in enumerate(one.tools) if i != one.called], None, one.judged
        )
        for one in asked
        if len(one.tools) > 1
    ]
    drawn, left = list[Request](), list[Request]()
    for half in (False, True):
        for one in [one for one in pools["metatool"] if one.judged is half][:_DRAWN]:
            most = int(draw.integers(_LEAST_LIST, _MOST_LIST))
            order = [i for i in draw.permutation(len(one.tools)).tolist() if i != one.called]
            others = [one.tools[i] for i in order[:most]]
            drawn.append(Request(one.asked, [one.tools[one.called or 0], *others], 0, half))
            left.append(Request(one.asked, others, None, half))
    return {"without": without, "drawn": drawn, "drawn without": left}


@dataclass(frozen=True, slots=True)
class View:
    """What an encoder, or the words alone, says of every request's tools.

    Attributes:
        pools, lists: for each request the features of its tools, `[T, 3]`.
    """

    pools: Mapping[str, list[np.ndarray]]
    lists: Mapping[str, list[np.ndarray]]

    @classmethod
    def of(
        cls,
        name: str,
        pools: Mapping[str, Sequence[Request]],
        lists: Mapping[str, Sequence[Request]],
        study: Study,
    ) -> View:
        """The features of all, read anew."""
        ranker, encoder = ToolRanker(None, None), _encoder(name)

        def read(of: Mapping[str, Sequence[Request]]) -> dict[str, list[np.ndarray]]:
            found: dict[str, list[np.ndarray]] = {}
            for part, requests in of.items():
                found[part] = []
                for i, one in enumerate(requests):
                    found[part].append(ranker.features(one.asked, one.tools, encoder))
                    study.report(f"{name} {part}", i + 1, len(requests))
            return found

        return cls(read(pools), read(lists))


def _encoder(name: str) -> CachedEncoder | None:
    names = {"minilm": DEFAULT_ENCODER, "e5": SMALL_RANK_ENCODER}
    if name not in names:
        return None
    return CachedEncoder(Encoder.from_folder(locate(names[name])))


def logits_of(weights: ToolWeights, features: np.ndarray) -> np.ndarray:
    """The log odds of each tool of a list, `[T]`, as `ToolRanker` has them."""
    mean = weights.mean * features[:, 0].mean() + weights.intercept
    found: np.ndarray = features @ (weights.likeness, weights.covered, weights.named) + mean
    return found


def recall_figures(
    views: Mapping[str, View],
    weights: Mapping[str, ToolWeights],
    pools: Mapping[str, Sequence[Request]],
    seed: int,
) -> dict[str, Any]:
    """Recall of the called tool at each depth, of tamis, BM25, MiniLM and their sum.

    Tools that tie with it count half.
    """
    found: dict[str, Any] = {}
    for name, pool in pools.items():
        bm25 = Collection([tool.whole for tool in pool[0].tools])
        words = [np.array(bm25.score(cached_words(one.asked))) for one in pool]
        cosines = [features[:, 0] for features in views["minilm"].pools[name]]
        scores = {"BM25": words, "MiniLM": cosines}
        pairs = zip(words, cosines, strict=True)
        scores["BM25 + MiniLM"] = [z_scores(a.tolist()) + z_scores(b.tolist()) for a, b in pairs]
        for view, of in views.items():
            scores[f"tamis ({view})"] = [logits_of(weights[view], f) for f in of.pools[name]]
        judged = np.array([one.judged for one in pool])
        places = {
            method: np.array([_place(s, one.called or 0) for s, one in zip(of, pool, strict=True)])
            for method, of in scores.items()
        }
        methods = {
            method: {
                f"{part}@{k}": float((place[judged | (part == "all")] < k).mean())
                for part in ("judged", "all")
                for k in DEPTHS
            }
            for method, place in places.items()
        }
        ours, theirs = (places[m][judged] < DEPTHS[-1] for m in ("tamis (minilm)", "MiniLM"))
        gain = paired_interval(ours.astype(int), theirs.astype(int), [1] * len(ours), seed=seed)
        found[name] = {"methods": methods, "minilm - MiniLM @12": gain}
    return found


def _place(scores: np.ndarray, called: int) -> float:
    """How many tools stand before the one that was called; those that tie count half."""
    ties = int((scores == scores[called]).sum()) - 1
    return int((scores > scores[called]).sum()) + ties / 2


def verdict_figures(
    view: View, weights: ToolWeights, lists: Mapping[str, Sequence[Request]]
) -> dict[str, float]:
    """How well the best score of a list says whether one fits: AUROC, shares at the threshold."""
    best = {
        name: np.array(
            [
                logits_of(weights, features).max()
                for features, one in zip(view.lists[name], requests, strict=True)
                if one.judged
            ]
        )
        for name, requests in lists.items()
    }
    cut = float(np.log(THRESHOLD / (1 - THRESHOLD)))
    return {
        "auroc": area_under_curve(best["called"], best["irrelevant"]),
        "accepted": float((best["called"] >= cut).mean()),
        "abstained": float((best["irrelevant"] < cut).mean()),
        "auroc_taken_out": area_under_curve(best["drawn"], best["drawn without"]),
    }


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """The share of pairs whose positive has the higher score; ties count half."""
    more = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    return float(more)


def fitted(
    view: View, pools: Mapping[str, Sequence[Request]], lists: Mapping[str, Sequence[Request]]
) -> ToolWeights:
    """The weights that put called tools first and the best of a list on the right side of a half.

    Each kind of list weighs the same as the others of its sign, lists without the tool that was
    called half as much: others of BFCL often fit as well.
    """
    parts = {
        "called": 1.0,
        "drawn": 1.0,
        "irrelevant": -1.0,
        "drawn without": -1.0,
        "without": -0.5,
    }
    rows, signs, shares = list[np.ndarray](), list[float](), list[float]()
    for name, sign in parts.items():
        of = [f for f, r in zip(view.lists[name], lists[name], strict=True) if not r.judged]
        rows += [np.hstack([f, np.full((len(f), 1), f[:, 0].mean())]) for f in of]
        signs += [float(sign > 0)] * len(of)
        total = sum(abs(one) for one in parts.values() if one * sign > 0)
        shares += [abs(sign) / total / 2 / len(of)] * len(of)
    features = torch.zeros(len(rows), max(map(len, rows)), 4)
    absent = torch.full(features.shape[:2], -1e9)
    for i, row in enumerate(rows):
        features[i, : len(row)], absent[i, : len(row)] = torch.from_numpy(row).float(), 0
    ordered = []
    for name, pool in pools.items():
        of = [f for f, r in zip(view.pools[name], pool, strict=True) if not r.judged]
        called = torch.tensor([one.called or 0 for one in pool if not one.judged])
        ordered.append((torch.from_numpy(np.stack(of)).float(), called))
    weight, intercept = torch.zeros(4, requires_grad=True), torch.zeros(1, requires_grad=True)
    search = torch.optim.LBFGS([weight, intercept], max_iter=300, line_search_fn="strong_wolfe")
    truth, share = torch.tensor(signs), torch.tensor(shares)

    def loss() -> torch.Tensor:
        search.zero_grad()
        best = (features @ weight + absent).amax(1) + intercept
        verdicts = share @ binary_cross_entropy_with_logits(best, truth, reduction="none")
        total = _DECAY * (weight**2).sum() + _VERDICTS * verdicts
        for of, called in ordered:
            total = total + cross_entropy(of @ weight[:3], called)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    step: Callable[..., Any] = search.step
    step(loss)
    likeness, covered, named, mean = (round(one, 3) for one in weight.tolist())
    return ToolWeights(round(intercept.item(), 3), likeness, mean, covered, named)

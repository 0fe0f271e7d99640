"""`tamis lab probe lora` on a tiny model: its adapters can be read with; wrong input is refused."""

from __future__ import annotations

import json

import pytest

from lab.tests.bench.records import write
from lab.tests.train.lora.test_lora import planted
from tamis.compressors.rules import Budget
from tamis.probes.hub import zoo
from tamis.probes.hub.adapters import Adapters
from tamis.service.batch.job import BatchJob, resume_settings
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

PNG = b"\x89PNG\r\n\x1a\n"


def train_adapters(place, *words):
    given = ("--proxy", place / "llama", "--data", place / "planted.jsonl", "--layers", 3)
    return tamis("lab", "probe", "lora", *given, *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, data, and adapters that the command learnt."""
    folder = tmp_path_factory.mktemp("lora")
    tiny.save("llama", folder / "llama")
    write(folder / "planted.jsonl", planted())
    done = train_adapters(
        folder,
        *("--questions", 16, "--every", 8, "--judge", 4, "--rank", 2),
        *("--out", folder / "sharp", "--png", folder / "curve.png"),
    )
    assert done.exit_code == 0, done.output
    assert "gold kept" in done.stdout
    assert "fit its probe with probe train" in " ".join(done.stderr.split())
    return folder


def test_what_it_writes_is_a_proxy_that_probe_train_and_compress_take(place):
    probe = place / "sharp.safetensors"
    words = ("--proxy", place / "sharp", "--data", place / "planted.jsonl", "--layers", 3)
    done = tamis("lab", "probe", "train", *words, "--out", probe, "--cache", place / "readings")
    assert done.exit_code == 0, done.output
    (place / "in.txt").write_text("One is here. Two is there. Three is far.")
    words = ("compress", place / "in.txt", "-q", "Q?", "--max-tokens", 20, "--probe", probe)
    assert tamis(*words, "--proxy", place / "sharp").exit_code == 0
    refused = tamis(*words, "--proxy", place / "llama")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "fitted with model sharp" in refused.stderr


def test_the_card_says_what_was_learnt_from_and_how(place):
    card = Adapters.load(place / "sharp").card
    assert (card.rank, card.depth, card.layers) == (2, 3, (1, 2))
    assert (card.base, card.name) == (str(place / "llama"), "sharp")
    assert card.revision == zoo.load_proxy(place / "llama").card.revision
    assert [(s["name"], s["questions"]) for s in card.trained_on] == [("planted", 16)]
    assert card.recipe["seed"] == 0
    assert [row["questions"] for row in card.figures["curve"]] == [0, 8, 16]


def test_the_curve_is_kept_as_lines_and_drawn(place):
    rows = [json.loads(line) for line in (place / "sharp/curve.jsonl").read_text().splitlines()]
    assert rows == Adapters.load(place / "sharp").card.figures["curve"]
    assert (place / "curve.png").read_bytes().startswith(PNG)


def test_a_batch_that_goes_on_tells_adapters_from_their_model(place):
    for name in ("llama", "sharp"):
        job = BatchJob(Budget(max_tokens=100), proxy=str(place / name))
        assert resume_settings(job)["proxy revision"] == zoo.load_proxy(place / name).card.revision


def test_a_run_goes_on_behind_a_finished_one(place):
    words = ("--questions", 8, "--every", 8, "--judge", 4, "--rank", 2, "--behind", place / "sharp")
    done = train_adapters(place, *words, "--out", place / "on")
    assert done.exit_code == 0, done.output
    card = Adapters.load(place / "on").card
    assert [row["questions"] for row in card.figures["curve"]] == [0, 8, 16, 24]
    assert [(s["name"], s["questions"]) for s in card.trained_on] == [("planted", 24)]
    refused = train_adapters(place, *words, "--seed", 1, "--out", place / "other")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "no finished run on these questions" in refused.stderr


def test_another_recipe_in_the_same_folder_is_refused(place):
    before = (place / "sharp/adapters.safetensors").read_bytes()
    done = train_adapters(place, "--questions", 16, "--rank", 3, "--out", place / "sharp")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "checkpoint of another run" in done.stderr
    assert (place / "sharp/adapters.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--rank", 40), "rank is 40; give 1 to 32"),
        (("--first-layer", 3), "give 0 to 2"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
    ],
)
def test_wrong_input_is_one_sentence(place, tmp_path, words, says):
    done = train_adapters(place, *words, "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_teaches():
    done = tamis("lab", "probe", "lora", "--help")
    assert done.exit_code == 0
    assert "tamis lab probe train --proxy sharp/" in done.stdout

"""`tamis lab heads` on a tiny model: finds, compares and draws heads, and stores readings."""

from __future__ import annotations

import json

import pytest

from lab.tests.bench.records import doc, record, write
from tamis.probes.probing.heads import HeadProfile, shipped_file
from tamis.service.api.languages import SHARP
from tamis_lab.methods.position_bias import PositionProfile
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

PNG = b"\x89PNG\r\n\x1a\n"
WAYS = ("needle", "copy", "contrast", "qr")
SHIPPED = [shipped_file("contrast", name) for name in ("smollm2-135m", "gemma3-270m")]


def answered_record(i: int):
    """A record with three documents, one of which holds the answer."""
    message = doc(f"Ann{i} sings.", f"She lives in Rome{i}.", gold=[1], title=f"Ann{i}")
    others = [doc(f"Bob{i}{j} digs peat.", "It rains.", title=f"Bob{i}{j}") for j in range(2)]
    start = message["text"].index("Rome")
    spans = [[0, start, start + len(f"Rome{i}")]]
    return record(f"r{i}", f"Where does Ann{i} live?", message, *others, answer_spans=spans)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, records, and a profile found in each way."""
    folder = tmp_path_factory.mktemp("heads")
    tiny.save("llama", folder / "llama")
    write(folder / "records.jsonl", [answered_record(i) for i in range(5)])
    for by in WAYS:
        done = find(folder, by, "--out", folder / f"{by}.json", "--png", folder / f"{by}.png")
        assert done.exit_code == 0, done.output
        assert "5/5" in done.stderr
    return folder


def find(folder, by, *more):
    given = ("--proxy", folder / "llama", "--data", folder / "records.jsonl")
    return tamis(
        "lab", "heads", "find", "--by", by, *given, "--cache", folder / "kept", "--k", 3, *more
    )


@pytest.mark.parametrize("by", WAYS)
def test_every_way_scores_every_head_of_the_model(place, by):
    found = HeadProfile.load(place / f"{by}.json")
    assert (found.model, found.by, found.layers, found.heads) == ("llama", by, 4, 4)
    assert found.cases == 5
    assert found.data[0]["questions"] == 5
    assert (by == "copy") or any(value > 0 for row in found.scores for value in row)
    assert (place / f"{by}.png").read_bytes().startswith(PNG)
    assert set(found.stability) == {"4", "8", "16"}


def test_what_was_read_is_not_read_again(place):
    before = {path: path.stat().st_mtime_ns for path in (place / "kept").rglob("*.safetensors")}
    again = find(place, "contrast", "--temperature", 0.1, "--out", place / "warm.json")
    assert again.exit_code == 0, again.output
    after = {path: path.stat().st_mtime_ns for path in (place / "kept").rglob("*.safetensors")}
    assert after == before
    warm, cold = HeadProfile.load(place / "warm.json"), HeadProfile.load(place / "contrast.json")
    assert warm.settings["temperature"] == 0.1
    assert warm.scores != cold.scores


def test_a_readings_scores_do_not_depend_on_the_order_of_the_files_records(place):
    rows = [answered_record(i) for i in reversed(range(5))]
    write(place / "turned.jsonl", rows)
    given = ("--proxy", place / "llama", "--data", place / "turned.jsonl", "--cache", place / "new")
    done = tamis("lab", "heads", "find", "--by", "needle", *given, "--out", place / "turned.json")
    assert done.exit_code == 0, done.output
    here, there = (HeadProfile.load(place / f"{n}.json").scores for n in ("needle", "turned"))
    assert [x for row in here for x in row] == pytest.approx([x for row in there for x in row])


def test_overlap_compares_profiles_pair_by_pair(place):
    files = [place / f"{by}.json" for by in WAYS]
    done = tamis("lab", "heads", "overlap", *files, "--k", 4, "--json")
    found = json.loads(done.stdout)
    assert found["jaccard"]["needle"]["needle"] == 1.0
    assert found["jaccard"]["needle"]["qr"] == found["jaccard"]["qr"]["needle"]
    assert len(found["best"]["copy"]) == 4
    assert "in all:" in tamis("lab", "heads", "overlap", *files, "--k", 4).stdout


def test_profiles_of_one_file_name_are_told_apart_by_their_folders(place, tmp_path):
    (tmp_path / "qr.json").write_bytes((place / "needle.json").read_bytes())
    files = [place / "qr.json", tmp_path / "qr.json", place / "copy.json"]
    done = tamis("lab", "heads", "overlap", *files, "--k", 4, "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["best"]) == {*map(str, files[:2]), "copy"}


def test_show_draws_one_line_a_layer_with_the_best_heads_by_rank(place):
    done = tamis("lab", "heads", "show", place / "qr.json", "--k", 3)
    assert [line for line in done.stdout.splitlines() if line.startswith("layer")]
    (layer, head), *_ = HeadProfile.load(place / "qr.json").best(3)
    assert f"{layer}-{head}" in done.stdout
    assert "5 questions" in done.stdout


def test_the_shipped_probes_weights_are_a_profile_too(tmp_path):
    done = tamis("lab", "heads", "show", "--by", "probe", "--png", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    assert "not measured" in done.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("find", "--by", "magic"), "needle, copy, contrast, qr, probe"),
        (("find", "--by", "needle"), "--data FILE"),
        (("show", "nowhere.json"), "nowhere.json"),
        (("show", "--proxy", "nobody"), "tamis lab heads find --by contrast --proxy nobody"),
        (("find", "--by", "contrast", "--temperature", "nan"), "temperature is nan"),
        (("find", "--by", "contrast", "--temperature", "-1"), "temperature is -1"),
        (("find", "--by", "qr", "--data", "no", "--out", "no/where.json"), "no folder no"),
        (("find", "--by", "qr", "--data", "no:0"), "at least 1 question"),
        (("basin", "--data", "no", "--png", "no/where.png"), "no folder no"),
        (("overlap", "--proxy", "nobody"), "at least two"),
        (("overlap", SHIPPED[0], SHIPPED[0]), "1 of the files named"),
        (("overlap", *SHIPPED), "heads of one model can be compared"),
        (("show", "--png", "map.doc"), "map.doc ends in .doc; draw a .png"),
        (("basin", "--data", "no", "--png", "map"), "map ends in nothing; draw a .png"),
        (("basin", "--proxy", "nobody"), "tamis lab heads basin --proxy nobody"),
    ],
)
def test_an_impossible_call_is_one_line_and_exit_code_2(words, message):
    done = tamis("lab", "heads", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_contrast_without_other_documents_is_refused(place, tmp_path):
    alone = [
        record(f"r{i}", "Who?", doc("Ann.", "Bob.", gold=[0]), doc("Cid.", gold=[0]))
        for i in (1, 2)
    ]
    write(tmp_path / "alone.jsonl", alone)
    done = tamis(
        *("lab", "heads", "find", "--by", "contrast", "--proxy", place / "llama"),
        *("--data", tmp_path / "alone.jsonl", "--cache", tmp_path / "kept"),
    )
    assert done.exit_code == 2
    assert "not gold" in done.stderr


def test_position_bias_is_measured_over_lists_of_equal_length(place):
    done = tamis(
        *("lab", "heads", "basin", "--proxy", place / "llama", "--data", place / "records.jsonl"),
        *("--documents", 3, "--out", place / "basin.json", "--png", place / "basin.png"),
    )
    assert done.exit_code == 0, done.output
    found = PositionProfile.load(place / "basin.json")
    assert len(found.by_layer) == 4
    for shares in found.by_layer:
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert found.cases == 5
    assert (place / "basin.png").read_bytes().startswith(PNG)
    short = tamis(
        *("lab", "heads", "basin", "--proxy", place / "llama", "--data", place / "records.jsonl"),
    )
    assert short.exit_code == 2
    assert "lower number" in short.stderr


def test_the_shipped_position_bias_is_shown_without_data():
    done = tamis("lab", "heads", "basin")
    assert done.exit_code == 0, done.output
    assert "ends to middle" in done.stdout


def test_without_a_name_the_heads_are_those_of_the_model_that_reads_by_default():
    done = tamis("lab", "heads", "show")
    assert done.exit_code == 0, done.output
    assert SHARP in done.stdout

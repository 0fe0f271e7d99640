"""Kept readings: found again as they were put, never another's, never half."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import save_file

from tamis.probes.errors import BadInput
from tamis_lab.datasets import reading_store
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey
from tests.scripted import ScriptedReader

KEY = StoreKey("features", "tiny", "r1", "float32", "chatml", "20 layers")
TENSORS = {
    "features": torch.linspace(-3, 3, 12).reshape(3, 4).half(),
    "rounded": torch.tensor([1 / 3, -7.5]).bfloat16(),
    "exact": torch.tensor([0.1, 1e-300], dtype=torch.float64),
    "none": torch.zeros(0),
    "one": torch.tensor(2),
}
FACTS = {"ms": 1 / 3, "text": "é\ud800", "nothing": None}


def files(folder):
    return sorted(folder.rglob("*.safetensors"))


def same(one: Entry, tensors=TENSORS) -> bool:
    return one.tensors.keys() == tensors.keys() and all(
        one.tensors[name].dtype == tensor.dtype and torch.equal(one.tensors[name], tensor)
        for name, tensor in tensors.items()
    )


def test_a_later_run_finds_bit_for_bit_what_was_put(tmp_path):
    put = ReadingStore(tmp_path, KEY).put(["a", [1, 2]], TENSORS, FACTS)
    found = ReadingStore(tmp_path, KEY).get(["a", [1, 2]])
    assert same(put)
    assert same(found)
    assert put.facts == found.facts == FACTS


def test_facts_are_what_json_makes_of_them_from_the_first_run_on(tmp_path):
    assert ReadingStore(tmp_path, KEY).put("a", {}, {"pair": (1, 2)}).facts == {"pair": [1, 2]}


def test_a_view_is_kept_as_its_own_values(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    found = ReadingStore(tmp_path, KEY).put("a", {"column": whole[:, 1]}, {})
    assert found.tensors["column"].tolist() == [1, 5, 9]


def test_a_second_run_computes_nothing(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return Entry(TENSORS, FACTS)

    for _ in range(3):
        assert same(ReadingStore(tmp_path, KEY).get_or_compute("a", compute))
    assert len(calls) == 1
    ReadingStore(tmp_path, KEY).get_or_compute("b", compute)
    assert len(calls) == 2


def test_an_interrupted_run_goes_on_after_its_last_entry(tmp_path):
    def compute():
        raise KeyboardInterrupt

    store = ReadingStore(tmp_path, KEY)
    store.put("a", TENSORS, FACTS)
    with pytest.raises(KeyboardInterrupt):
        store.get_or_compute("b", compute)
    again = ReadingStore(tmp_path, KEY)
    assert same(again.get("a"))
    assert again.get("b") is None


@pytest.mark.parametrize("identity", [None, "", "a", ["a"], [["a"]], [1], ["1"], {"a": 1}])
def test_an_entry_is_found_by_its_own_identity_alone(tmp_path, identity):
    store = ReadingStore(tmp_path, KEY)
    others = [None, "", "a", ["a"], [["a"]], [1], ["1"], {"a": 1}]
    store.put(identity, TENSORS, FACTS)
    assert [store.get(other) is not None for other in others].count(True) == 1
    assert store.get(identity) is not None


@pytest.mark.parametrize("field", [field.name for field in fields(StoreKey)])
def test_keys_that_differ_in_anything_never_share_an_entry(tmp_path, field):
    other = replace(KEY, **{field: 2 if field == "version" else "other"})
    ReadingStore(tmp_path, KEY).put("a", TENSORS, FACTS)
    assert ReadingStore(tmp_path, other).get("a") is None
    ReadingStore(tmp_path, other).put("a", {}, {})
    assert same(ReadingStore(tmp_path, KEY).get("a"))


def test_where_one_field_of_a_key_ends_and_the_next_begins_makes_a_difference(tmp_path):
    one, other = replace(KEY, model="a b", revision="c"), replace(KEY, model="a", revision="b c")
    assert ReadingStore(tmp_path, one).folder != ReadingStore(tmp_path, other).folder


def test_files_of_another_format_are_not_found(tmp_path, monkeypatch):
    ReadingStore(tmp_path, KEY).put("a", TENSORS, FACTS)
    monkeypatch.setattr(reading_store, "FORMAT", reading_store.FORMAT + 1)
    assert ReadingStore(tmp_path, KEY).get("a") is None


def test_a_folder_says_in_words_whose_it_is(tmp_path):
    (note,) = ReadingStore(tmp_path, KEY).folder.glob("*.json")
    assert json.loads(note.read_text("utf-8")) == {
        "format": reading_store.FORMAT,
        "kind": "features",
        "model": "tiny",
        "revision": "r1",
        "dtype": "float32",
        "template": "chatml",
        "options": "20 layers",
        "version": 1,
    }


def test_a_file_cut_anywhere_counts_as_absent_and_is_written_anew(tmp_path):
    store = ReadingStore(tmp_path, KEY)
    store.put("a", TENSORS, FACTS)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        assert store.get("a") is None, size
    assert same(store.get_or_compute("a", lambda: Entry(TENSORS, FACTS)))
    assert same(store.get("a"))


def test_a_file_with_any_bit_flipped_counts_as_absent_or_says_the_same(tmp_path):
    store = ReadingStore(tmp_path, KEY)
    store.put("a", TENSORS, FACTS)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        found = store.get("a")
        assert found is None or (same(found) and found.facts == FACTS), place


def test_a_file_under_another_entrys_name_counts_as_absent(tmp_path):
    store = ReadingStore(tmp_path, KEY)
    store.put("a", TENSORS, FACTS)
    (a,) = files(tmp_path)
    store.put("b", {}, {})
    (b,) = set(files(tmp_path)) - {a}
    b.write_bytes(a.read_bytes())
    assert store.get("b") is None
    elsewhere = ReadingStore(tmp_path, replace(KEY, revision="r2"))
    (elsewhere.folder / a.name).write_bytes(a.read_bytes())
    assert elsewhere.get("a") is None


def test_a_whole_file_without_a_checksum_counts_as_absent(tmp_path):
    """Such as those of the formats before this one."""
    store = ReadingStore(tmp_path, KEY)
    store.put("a", TENSORS, FACTS)
    (file,) = files(tmp_path)
    save_file(TENSORS, file, metadata={"facts": "{}"})
    assert store.get("a") is None
    save_file(TENSORS, file)
    assert store.get("a") is None


def put_often(folder, start) -> None:
    store = ReadingStore(folder, KEY)
    start.wait()
    for number in range(40):
        store.put(number % 4, TENSORS, FACTS)
        assert all(same(found) for i in range(4) if (found := store.get(i)) is not None)


def test_processes_that_write_the_same_entries_do_no_harm(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    processes = [context.Process(target=put_often, args=(tmp_path, start)) for _ in range(2)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert all(same(ReadingStore(tmp_path, KEY).get(i)) for i in range(4))
    assert len(files(tmp_path)) == 4
    names = {path.suffix for path in ReadingStore(tmp_path, KEY).folder.iterdir()}
    assert names == {".json", ".safetensors"}  # nothing temporary is left


def test_a_write_that_fails_is_refused_with_the_way_out_and_leaves_nothing(tmp_path, monkeypatch):
    store = ReadingStore(tmp_path, KEY)

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading_store, "save_file", full)
    with pytest.raises(BadInput, match=r"\(No space left on device\); name another folder"):
        store.put("a", TENSORS, FACTS)
    assert [path.name for path in store.folder.iterdir()] == ["key.json"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(BadInput, match=r"cannot be kept in .*file .*name another folder"):
        ReadingStore(tmp_path / "file", KEY)


def test_the_key_of_a_reader_has_model_revision_precision_and_template():
    reader = ScriptedReader.from_needles("Rome")
    key = StoreKey.of_reader("heads", reader, "4 layers", 3)
    card = reader.card
    template = reader.layout.template.name
    assert (key.model, key.revision, key.template) == (card.name, card.revision, template)
    assert (key.kind, key.options, key.version) == ("heads", "4 layers", 3)


def test_the_key_of_a_reader_that_keeps_passages_is_that_of_its_proxy():
    class Proxied(ScriptedReader):
        dtype = torch.bfloat16

    class Caching:
        def __init__(self, proxy):
            self.proxy, self.card, self.layout = proxy, proxy.card, proxy.layout

    proxy = Proxied.from_needles("Rome")
    key = StoreKey.of_reader("signals", proxy)
    assert key.dtype == "bfloat16"
    assert StoreKey.of_reader("signals", Caching(proxy)) == key

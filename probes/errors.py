"""Everything that can go wrong, in one tree.

TamisError
├── BadInput            the caller's fault; the message says what, the numbers, the way out
│   ├── BudgetTooSmall  not even one unit fits
│   ├── UnknownMethod   no such file in compressors/
│   ├── UnknownTokenizer
│   └── ProbeMismatch   a probe fitted for another model, template or depth
├── ProxyMissing        the proxy model is not on this machine
├── ProxyUnsupported    a model tamis cannot read attention from
├── BadModelFile        wrong hash, torn file, missing tensor
├── BadIndex            an index on disk that is damaged, or of another format
├── IndexBusy           another process is writing the index
├── DownloadFailed      no network, no disk, registry said no
└── MissingExtra        an optional package is not installed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TamisError(Exception):
    """Anything tamis raises on purpose."""


class BadInput(TamisError, ValueError):
    """Input that cannot be served; the message names the numbers and the way out."""


class BudgetTooSmall(BadInput):
    """The budget is smaller than the shortest unit that may be kept."""


class UnknownMethod(BadInput):
    """No method of that name."""


class UnknownTokenizer(BadInput):
    """A tokenizer that is neither a file, a folder nor a known name."""


class ProbeMismatch(BadInput):
    """A probe that was fitted with another model, template, or set of layers."""


class ProxyMissing(TamisError):
    """The proxy's weights are not on this machine; the message names the command that gets them."""


class ProxyUnsupported(TamisError):
    """The model's attention cannot be read faithfully."""


class BadModelFile(TamisError):
    """A model or probe file that is damaged, foreign or not the one that was pinned."""


class DownloadFailed(TamisError):
    """A model could not be fetched; the message says how to bring it by hand."""


class TermsNotAccepted(TamisError):
    """A model's licence must be accepted before it is fetched; the message names it and how."""


class MissingExtra(TamisError, ImportError):
    """An optional package is not installed; the message is the command that installs it."""


class BadIndex(TamisError):
    """An index on disk that is damaged, or in a format this version does not read."""


class IndexBusy(TamisError):
    """Another process is writing the index: one at a time."""


@contextmanager
def wrap_load_errors(folder: Path) -> Iterator[None]:
    """Turns whatever the readers of transformers and tokenizers raise into one error.

    Raises:
        BadModelFile: the block failed, with what the reader said.
    """
    try:
        yield
    except Exception as error:  # the Rust side raises a bare Exception for a missing or torn file
        raise BadModelFile(f"{folder} cannot be loaded as a proxy: {error}") from error

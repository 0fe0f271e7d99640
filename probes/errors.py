"""Every error that tamis raises on purpose, in one tree.

TamisError
├── BadInput              the caller's input cannot be served (also a ValueError)
│   ├── BudgetTooSmall    the budget is smaller than the shortest unit
│   ├── UnknownMethod     no method has that name
│   │   └── BrokenPlugin  another package's method or command cannot be loaded
│   ├── UnknownTokenizer  neither a tokenizer file, a folder with one, nor a known name
│   └── ProbeMismatch     a probe, profile or adapters of another model, revision or template
├── ProxyMissing          the model's weights are not on this machine
├── ProxyUnsupported      a model whose attention cannot be read faithfully
├── BadModelFile          a model, probe or profile file that is damaged or not the pinned one
├── DownloadFailed        a model could not be fetched: network, disk or registry
├── TermsNotAccepted      a model's licence must be accepted before it is fetched
├── MissingExtra          an optional package is not installed (also an ImportError)
├── BadIndex              an index on disk that is damaged or in an unknown format
└── IndexBusy             another process is writing the index

Every message says what is wrong, names the numbers involved, and says what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TamisError(Exception):
    """The base class of every error that tamis raises on purpose."""


class BadInput(TamisError, ValueError):
    """Input that cannot be served; the message names the numbers and the remedy."""


class BudgetTooSmall(BadInput):
    """The token budget is smaller than the shortest unit that may be kept."""


class UnknownMethod(BadInput):
    """No compression or reranking method has that name."""


class BrokenPlugin(UnknownMethod):
    """A method or a command of another package that cannot be loaded; the message names both."""


class UnknownTokenizer(BadInput):
    """A tokenizer that is neither a file, a folder with one, nor a known name."""


class ProbeMismatch(BadInput):
    """A probe, head profile or set of adapters made for another model, revision or template."""


class ProxyMissing(TamisError):
    """The proxy's weights are not on this machine; the message names the command that gets them."""


class ProxyUnsupported(TamisError):
    """The model's attention cannot be read faithfully."""


class BadModelFile(TamisError):
    """A model, probe or profile file that is damaged, foreign or not the one that was pinned."""


class DownloadFailed(TamisError):
    """A model could not be fetched; the message says how to install it by hand."""


class TermsNotAccepted(TamisError):
    """A model's licence must be accepted before it is fetched; the message names it and how."""


class MissingExtra(TamisError, ImportError):
    """An optional package is not installed; the message is the command that installs it."""


class BadIndex(TamisError):
    """An index on disk that is damaged, or in a format this version does not read."""


class IndexBusy(TamisError):
    """Another process is writing the index; only one may write at a time."""


@contextmanager
def wrap_load_errors(folder: Path) -> Iterator[None]:
    """Turns any exception of transformers' and tokenizers' file readers into `BadModelFile`.

    Raises:
        BadModelFile: the block raised; the message quotes the original error.
    """
    try:
        yield
    except Exception as error:  # the Rust side raises a bare Exception for a missing or torn file
        raise BadModelFile(f"{folder} cannot be loaded as a proxy: {error}") from error

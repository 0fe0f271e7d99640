"""The real models, for the tests that need them: installed once, into the user's own cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tamis.probes import zoo
from tamis.probes.errors import ProxyMissing


@pytest.fixture(scope="session")
def proxy_folder() -> Path:
    """The default proxy's folder. Tests that use it are marked `model`."""
    return _installed("smollm2-135m")


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """The sentence encoder's folder. Tests that use it are marked `model`."""
    return _installed("minilm-l6")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Labelled records beside the repository. Tests that use it are marked `data`."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.is_dir():
        pytest.fail("there is no ../shared/data; leave these tests out with -m 'not data'")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One core for tiny models: beside other work, two threads took 25 times as long as one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _installed(name: str) -> Path:
    try:
        return zoo.locate(name)
    except ProxyMissing:
        return zoo.pull(name)

"""For every test of the repository: no hub, no GPU, no network but this machine's own; threads where they are few."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores


@pytest.fixture(autouse=True, scope="module")
def loaded_modules_are_no_garbage() -> Iterator[None]:
    """Every run collects garbage after its models, which takes longer the more modules are loaded: these stay out."""
    gc.collect()
    gc.freeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the suite may connect to another machine; servers that a test starts are on this one."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        own = self.family == socket.AF_UNIX or (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"))
        if not own:
            raise AssertionError("a test tried to use the network")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors this small are slower on many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

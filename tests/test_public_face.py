"""The public face of mint-core: every name is there, and neither it nor discovery imports torch."""

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(("module", "at_least"), [("mint_core.plugin", 70), ("mint_core.plugin.training", 15)])
def test_every_name_of_the_face_is_there(module: str, at_least: int) -> None:
    face = import_module(module)
    assert len(face.__all__) >= at_least
    assert len(set(face.__all__)) == len(face.__all__)
    assert all(getattr(face, name) is not None for name in face.__all__)


@pytest.mark.parametrize(
    "module",
    [
        "mint_core", "mint_core.plugin", "mint_core.cli", "mint_core.builtin", "mint_core.plugins", "mint_core.config",
        "mint_core.interfaces", "mint_core.runs.pipeline", "mint_core.comparison.compare", "mint_core.answering.asker",
    ],
)  # fmt: skip
def test_no_torch_before_something_is_computed(module: str) -> None:
    code = (
        f"import sys, {module}; bad = {{'torch', 'transformers', 'datasets'}} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

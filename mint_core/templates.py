"""HTML templates: where they lie, and that all text in them is escaped."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


@lru_cache
def template(folder: str, name: str) -> Template:
    """A template of mint.

    Args:
        folder: The subpackage of mint_core in which it lies; what it includes lies there too.
        name: Its file.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("mint_core", folder)
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(name)

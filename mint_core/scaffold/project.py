"""A new plugin project: its names, and its files from the template beside this module."""

from __future__ import annotations

import builtins
import keyword
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mint_core import plugin as face
from mint_core.errors import ConfigError, StorageError
from mint_core.files import storage_errors
from mint_core.plugins import Registry, canonical
from mint_core.types import squeezed

if TYPE_CHECKING:
    from jinja2 import Environment

LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT")
_PREFIX, _SUFFIX = "mint-", ".jinja"
_LONGEST = 30
_TEMPLATE = Path(__file__).with_name("template")


@dataclass(frozen=True, slots=True)
class Names:
    """What a new plugin is called."""

    kind: str
    name: str
    """Of the component."""
    distribution: str
    module: str
    class_name: str


def names_of(kind: str, given: str, components: Registry) -> Names:
    """The names of a new plugin.

    Args:
        kind: The seam.
        given: What the user calls it, with or without `mint-` in front.
        components: What is installed.

    Raises:
        ConfigError: It is no name for a component, a distribution and a class, or it is taken.
    """
    name = given.removeprefix(_PREFIX)
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > _LONGEST:
        meant = canonical(re.sub(r"[^A-Za-z0-9]+", "-", name)).strip("-").lstrip("0123456789-")[:_LONGEST].strip("-")
        hint = f"; did you mean '{meant}'?" if meant else "."
        raise ConfigError(
            f"'{given}' is no name for a plugin: it takes lower-case words joined by hyphens, that begin with a "
            f"letter, {_LONGEST} characters at most{hint}"
        )
    names = Names(kind, name, _PREFIX + name, (_PREFIX + name).replace("-", "_"), name.title().replace("-", ""))
    owner = next((one for one in components.all(kind) if one.component.name == name), None)
    if owner is not None:
        raise ConfigError(f"The {kind} '{name}' is there already, of {owner.distribution}; choose another name.")
    used = {*face.__all__, *dir(builtins), *keyword.kwlist, "Field", "SimpleNamespace"}
    if names.class_name in used:
        raise ConfigError(
            f"'{given}' would be the class {names.class_name}, which means something else already; choose another name."
        )
    if _installed(names):
        raise ConfigError(f"{names.distribution} is installed already; choose another name, or uninstall it.")
    return names


def _installed(names: Names) -> bool:
    try:
        distribution(names.distribution)
    except PackageNotFoundError:
        return find_spec(names.module) is not None
    return True


def write_project(names: Names, into: Path, *, licence: str, author: str) -> Path:
    """Writes the project; it is complete or not there at all.

    Args:
        names: See `names_of`.
        into: The folder in which the project's own folder is made.
        licence: One of `LICENCES`.
        author: Who holds the copyright; empty = the authors of the distribution.

    Returns:
        Its folder.

    Raises:
        ConfigError: The folder is there already.
        StorageError: It cannot be written.
    """
    folder = into / names.distribution
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} is there already; choose another name or another folder with --into.")
    if into.exists() and not into.is_dir():
        raise StorageError(f"{into} is no folder; name another one with --into.")
    holder = squeezed(author) or f"The authors of {names.distribution}"
    facts = {**asdict(names), "licence": licence, "author": holder, "year": datetime.now(tz=UTC).year}
    with storage_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mint-plugin-", dir=into) as place:
            made = Path(place, names.distribution)
            for path, content in _rendered(facts):
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(content, encoding="utf-8")
            made.rename(folder)
    return folder


def _rendered(facts: dict[str, str | int]) -> Iterator[tuple[Path, str]]:
    """The files of the project; one whose name becomes empty is left out, as copier does."""
    words = _jinja()
    root = _TEMPLATE / "project"
    for path in sorted(root.rglob(f"*{_SUFFIX}")):
        written = words.from_string(str(path.relative_to(root))).render(facts).removesuffix(_SUFFIX)
        if Path(written).name and not written.endswith("/"):
            yield Path(written), words.get_template(path.relative_to(_TEMPLATE).as_posix()).render(facts)


def _jinja() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(_TEMPLATE)
    return Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)  # noqa: S701 - no HTML

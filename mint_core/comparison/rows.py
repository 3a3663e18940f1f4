"""Rows, seeds and baselines of a comparison, from their short forms and from the config's `compare` section."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mint_core.config import NO_ALIGNER, RunConfig, merge, refuse_unknown
from mint_core.documents import DocumentError, parse_yaml
from mint_core.errors import ConfigError, did_you_mean
from mint_core.interfaces import MAX_SEED
from mint_core.plugins import canonical, registry
from mint_core.types import Variant

_MOST_SEEDS = 1000
_DIGITS = len(str(MAX_SEED))

BASE = "base"
"""Short name of the row without alignment."""
RAG, HYBRID, HYBRID_FUSED = WITH_RETRIEVER = "rag", "hybrid", "hybrid-fused"
"""Short names of rows with the comparison's retriever."""
TEACHER, RETRIEVER, CHANCE, MAJORITY = (Variant(who).title for who in ("teacher", "retriever", "chance", "majority"))
"""Rows that stand in every comparison."""
_SHARED_KEYS = ("name", "out", "align_seed", "evaluate", "metrics")
"""Keys that must be the same for all rows."""
_SECTION = ("rows", "seeds", "baselines", "pairs", "preserve")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the comparison's config with an overlay.

    Raises:
        ConfigError: The name is empty, or the overlay sets what belongs to the comparison as a whole.
    """

    name: str
    """As tables and figures show it."""
    overlay: Mapping[str, Any]
    """Config, nested as in YAML; it wins over the comparison's own config."""

    def __post_init__(self) -> None:
        if not self.folder:
            raise ConfigError(f"A row needs a name of letters or digits, not '{self.name}'.")
        for key in self.overlay:
            if key in _SHARED_KEYS:
                raise ConfigError(f"Row '{self.name}' sets '{key}', which must be the same for all rows; set it once.")
        refuse_unknown(RunConfig.model_fields, self.overlay, f"row '{self.name}'")

    @property
    def folder(self) -> str:
        """The name as a file system takes it."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.name).strip("-._")


class Pair(NamedTuple):
    """Names of two rows that are tested against each other."""

    first: str
    second: str


def aligner_rows(names: Sequence[str], layer: Mapping[str, Any]) -> list[Row]:
    """One row per aligner; `base` is the student before alignment.

    `rag` is `base` with the comparison's retriever, `hybrid` the comparison's aligner with it, `hybrid-fused` that with
    both rankings combined. Where one of these is among the names, the others stand without the retriever.

    Raises:
        ConfigError: A row with retrieval is asked for, and the comparison has no retriever.
    """
    known = (BASE, *WITH_RETRIEVER)
    names = [canonical(name) if canonical(name) in known else registry().spelled("aligner", name) for name in names]
    retrieving = [name for name in names if name in WITH_RETRIEVER]
    if not retrieving:
        return [_aligner_row(name) for name in names]
    if layer.get("retriever") is None:
        raise ConfigError(f"The row '{retrieving[0]}' needs a retriever; name one with --retriever.")
    fuse = (layer.get("retrieval") or {}).get("fuse", "none")
    fused = {"retrieval": {"fuse": "rrf" if fuse == "none" else fuse}}
    plain: dict[str, Any] = {"retrieval": {"fuse": "none"}}
    without = {"retriever": None, "retrieval": {"fuse": "none", "train": False}}
    special = {
        RAG: Row(RAG, {"aligner": NO_ALIGNER, **plain}),
        HYBRID: Row(HYBRID, plain),
        HYBRID_FUSED: Row(HYBRID_FUSED, fused),
    }
    return [special.get(name) or _aligner_row(name, without) for name in names]


def student_rows(students: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """Every row with every student: a table over the size of the student.

    Args:
        students: Hugging Face ids, folders or GGUF files; their last parts name the rows.
        rows: The rows of one student.

    Raises:
        ConfigError: There are no rows, or one names its student itself.
    """
    if not rows:
        raise ConfigError("--students needs rows for each student; name them, for example --aligners base,orpo.")
    if any("student" in row.overlay for row in rows):
        raise ConfigError("With --students no row may set `student` itself; take it out of the row.")
    return [
        Row(f"{Path(student).name} {row.name}", merge({"student": {"model": student}}, row.overlay))
        for student in students
        for row in rows
    ]


def _aligner_row(name: str, overlay: Mapping[str, Any] | None = None) -> Row:
    return Row(name, {"aligner": NO_ALIGNER if name == BASE else name, **(overlay or {})})


def parse_row(text: str) -> Row:
    """`NAME=aligner:key=value,...` as a row; a key with a dot is a path into the config, others are the aligner's.

    `soft=orpo:weight=0.1,strategy.k=5` is the row `soft`: aligner orpo with weight 0.1, and a strategy with k = 5.

    Raises:
        ConfigError: A part is missing.
    """
    name, equals, rest = text.partition("=")
    aligner, _, options = rest.partition(":")
    if not equals or not name.strip() or not aligner.strip():
        raise ConfigError(
            f"--row takes NAME=aligner:key=value,…, not '{text}'; for example --row soft=orpo:weight=0.1."
        )
    overlay = _aligner_row(aligner.strip()).overlay
    for key, value in _options(options, f"--row {name}").items():
        if "." not in key and aligner.strip() in (BASE, NO_ALIGNER):
            raise ConfigError(f"Row '{name.strip()}' trains nothing, so that it has no option '{key}'; take it out.")
        path = key.split(".") if "." in key else ["aligner", key]
        nested: Any = value
        for part in reversed(path):
            nested = {part: nested}
        overlay = merge(overlay, nested)
    return Row(name.strip(), overlay)


def parse_baseline(text: str) -> Row:
    """`NAME:key=value,...` as a row whose teacher answers itself.

    Raises:
        ConfigError: A part is missing.
    """
    name, _, options = text.partition(":")
    if not name.strip():
        raise ConfigError(f"--baseline takes NAME:key=value,…, not '{text}'; for example --baseline regression.")
    given = _options(options, f"--baseline {name}")
    return Row(text.strip(), {"teacher": {"name": name.strip(), **given}, "aligner": NO_ALIGNER})


def _options(text: str, where: str) -> dict[str, Any]:
    """`a=1,b=x` as a mapping; values are read as YAML."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise ConfigError(f"{where} takes key=value after the colon, not '{part}'; lists go into a YAML config.")
        try:
            found[key.strip()] = parse_yaml(value)
        except DocumentError:
            raise ConfigError(f"{where}: the value of {key.strip()} is not valid YAML; put it in quotes.") from None
    return found


def parse_ratios(texts: str | Sequence[str] | None) -> list[Row]:
    """`k/q` as rows of a sweep.

    Raises:
        ConfigError: One of them is no ratio of two positive numbers, or there is none.
    """
    rows = []
    for text in [texts] if isinstance(texts, str) else texts or ():
        found = re.fullmatch(r"\s*([1-9]\d{0,5})\s*/\s*([1-9]\d{0,5})\s*", str(text))
        if not found:
            raise ConfigError(
                f"--aor takes ratios k/q of numbers from 1 to 999999, not '{text}'; for example 10/10,10/20."
            )
        k, q = map(int, found.groups())
        rows.append(Row(f"{k}/{q}", {"strategy": {"k": k, "q": q}}))
    if not rows:
        raise ConfigError(
            "A sweep needs at least one ratio, for example --aor 10/10,10/20; a table over students is `mint compare "
            "--students A,B`."
        )
    return rows


def parse_seeds(given: str | int | Sequence[int], first: int) -> tuple[int, ...]:
    """Seeds of the alignments: a count of seeds from `first` on, or a list.

    Args:
        given: `3` = three seeds from `first` on; `0,5,7` and `7,` = just these.
        first: The comparison's own seed.

    Raises:
        ConfigError: There is no seed, one occurs twice, or one is no number.
    """
    if isinstance(given, str):
        parts = [part.strip() for part in given.split(",") if part.strip()]
        if not all(part.isdecimal() and len(part) <= _DIGITS for part in parts):
            raise ConfigError(f"--seeds takes a count or a list of numbers, not '{given}'; for example 3, or 0,5,7.")
        given = int(parts[0]) if len(parts) == 1 and "," not in given else [int(part) for part in parts]
    listed = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in listed):
        raise ConfigError(f"`seeds` takes a count or a list of numbers, not '{given}'; for example 3, or [0, 5, 7].")
    if isinstance(given, int) and given > _MOST_SEEDS:
        raise ConfigError(f"{given:,} seeds are more than anyone can wait for; give at most {_MOST_SEEDS:,}.")
    seeds = tuple(range(first, first + given)) if isinstance(given, int) else tuple(given)
    if not seeds:
        raise ConfigError("The list of seeds is empty; give --seeds 3 for three of them, or a list such as 0,5,7.")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"The seeds {', '.join(map(str, seeds))} must be different and not negative.")
    if max(seeds) > MAX_SEED:
        raise ConfigError(f"A seed is at most {MAX_SEED}; the largest here is {max(seeds)}.")
    return seeds


def parse_baselines(names: Any) -> list[Row]:
    """One baseline, or a list of them, in the short form.

    Raises:
        ConfigError: It is neither, or a part is missing.
    """
    listed = [names] if isinstance(names, str) else names or ()
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        raise ConfigError("`baselines` takes a list of NAME:key=value,…; for example [regression].")
    return [parse_baseline(name) for name in listed]


def parse_pairs(given: Any) -> tuple[Pair, ...]:
    """Pairs of rows to test against each other: `FIRST,SECOND`, or lists of two names.

    Raises:
        ConfigError: One of them does not name two rows.
    """
    pairs = []
    for one in given if isinstance(given, list | tuple) else [given]:
        names = one.split(",") if isinstance(one, str) else one
        if not isinstance(names, list | tuple) or len(names) != 2 or not all(isinstance(name, str) for name in names):
            raise ConfigError(
                f"A pair takes two rows, FIRST,SECOND, not '{one}'; for example --pair orpo,sft. Names with a comma go "
                "into the config, as pairs: [[FIRST, SECOND]]."
            )
        first, second = (name.strip() for name in names)
        pairs.append(Pair(first, second))
    return tuple(dict.fromkeys(pairs))


def check_pairs(pairs: Sequence[Pair], rows: Sequence[Row], retrieving: Sequence[Row]) -> None:
    """Refuses pairs of rows that the comparison will not have; `retrieving`: rows whose retriever ranks labels.

    Raises:
        ConfigError: A name is that of no row, or a row is paired with itself.
    """
    known = [*(row.name for row in rows), TEACHER, *([RETRIEVER] if retrieving else []), CHANCE, MAJORITY]
    known += [f"{TEACHER} of {row.name}" for row in rows] + [f"{RETRIEVER} of {row.name}" for row in retrieving]
    for pair in pairs:
        for name in pair:
            if name not in known:
                raise ConfigError(f"There is no row '{name}' to test{did_you_mean(name, known)}.")
        if pair.first == pair.second:
            raise ConfigError(f"A row cannot be tested against itself, as the pair '{','.join(pair)}' asks for.")


def section_rows(section: Mapping[str, Any]) -> list[Row]:
    """The rows of a config's `compare` section: mappings of `name` and config.

    Raises:
        ConfigError: It is no list of mappings, or a row has no name.
    """
    found = section.get("rows", [])
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise ConfigError("`compare` must be a list of rows, each a mapping of `name` and the config that it changes.")
    rows = []
    for row in found:
        if not isinstance(row.get("name"), str):
            raise ConfigError("Every row under `compare` needs a `name` in letters.")
        rows.append(Row(row["name"], {key: value for key, value in row.items() if key != "name"}))
    return rows


def read_section(section: Any) -> dict[str, Any]:
    """A config's `compare` section as a mapping, see `_SECTION`; a list is the rows alone.

    Raises:
        ConfigError: It is neither, or has other keys.
    """
    content = {"rows": section} if isinstance(section, list) else section or {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"`compare` must be a list of rows, or a mapping with {', '.join(_SECTION)}.")
    refuse_unknown(_SECTION, content, "compare")
    return dict(content)


def check_rows(rows: Sequence[Row]) -> None:
    """Refuses rows that cannot stand in one table.

    Raises:
        ConfigError: Two have the same name or folder, or one takes the name of a row that is always there.
    """
    seen: dict[str, str] = {}
    for row in rows:
        folder = row.folder.lower()  # some file systems do not tell cases apart
        if row.name in (TEACHER, RETRIEVER, CHANCE, MAJORITY):
            raise ConfigError(f"A comparison has a row '{row.name}' already; give yours another name.")
        if folder in seen:
            raise ConfigError(f"The rows '{seen[folder]}' and '{row.name}' share a name; rename one with --row.")
        seen[folder] = row.name

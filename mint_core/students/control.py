"""Control tokens in text from outside: a note that holds the end of a turn must not end one.

What a chat format is made of is known to the student's tokenizer (turn marks, end of text, image tokens) and to its
chat template (headers such as `ASSISTANT:` or `[/INST]`, which many families write as plain text). Such a mark inside a
prompt's text loses its brackets or its colon before the prompt is rendered, so that it reaches the model as words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from mint_core.errors import DataError
from mint_core.types import LabelSpace, Prompt

_ROUND = str.maketrans("<>[]", "()()")
_NAMES = (
    "s bos eos pad unk cls sep mask start end user assistant system human bot think tool tools sys inst "
    "image img video audio boi eoi global-img"
)
_LOOKS_LIKE_ONE = re.compile(
    r"<[|\uff5c][^<>|\uff5c]{1,60}[|\uff5c]>"
    rf"|</?(?:{'|'.join(_NAMES.split())})>"
    r"|</?(?:[\w.:-]{1,40}[_:-])?(?:turn|token|image|img|utterance|calls?|response|prefix|suffix|middle|start|end)>"
    r"|<(?:unused|reserved_)\d+>|<row_\d+_col_\d+>|<fake_token_around_image>|<</?SYS>>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|IMG_BREAK|IMG_END|PREFIX|SUFFIX"
    r"|MIDDLE|THINK|ARGS|CALL_ID|CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]",
    re.IGNORECASE,
)
"""Marks of the usual chat formats, for a model whose tokenizer is not known here. No word in brackets counts that a
task writes itself (`1. <disease>`, `<passages>`) or that a note uses for what was taken out of it (`[NAME]`)."""
_KNOWN: WeakKeyDictionary[Any, re.Pattern[str]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Defused:
    """A prompt without control tokens in its text."""

    prompt: Prompt
    replaced: int
    """Control tokens that were made plain words."""


def defuse(prompt: Prompt, template_owner: Any = None) -> Defused:
    """Makes plain words of every control token in the text of a prompt.

    Args:
        prompt: What the task asks, with whatever notes and passages stand in it.
        template_owner: The student's processor or tokenizer; None = of a model elsewhere: what looks like a mark of a
            chat format counts as one.
    """
    marks = _LOOKS_LIKE_ONE if template_owner is None else _marks(template_owner)
    replaced = 0
    messages = []
    for message in prompt.messages:
        content = message.content
        while True:  # what is left of one mark may close another
            content, count = marks.subn(_plain, content)
            replaced += count
            if not count:
                break
        messages.append(message if content == message.content else replace(message, content=content))
    return Defused(replace(prompt, messages=tuple(messages)) if replaced else prompt, replaced)


def count_control_tokens(prompts: Iterable[Prompt], template_owner: Any = None) -> int:
    """How many control tokens stand in the text of prompts; arguments as above."""
    return sum(defuse(prompt, template_owner).replaced for prompt in prompts)


def check_labels(labels: LabelSpace, template_owner: Any, header: str = "") -> None:
    """Refuses a label that would be read as a control token or as the header of a list: it could not be read back.

    Raises:
        DataError: A label holds one.
    """
    marks = _marks(template_owner)
    for name in labels.names:
        if header and header in name:
            raise DataError(f"The label {name!r} holds {header!r}, with which every list begins; rename the label.")
        found = marks.search(name)
        if found:
            raise DataError(
                f"The label {name!r} holds {found[0]!r}, which is a control token of the student; rename the label, or "
                "choose another student."
            )


def _marks(template_owner: Any) -> re.Pattern[str]:
    if template_owner not in _KNOWN:
        tokens = _control_tokens(template_owner)
        found = sorted(tokens | _headers(template_owner, tokens), key=len, reverse=True)
        _KNOWN[template_owner] = re.compile("|".join(map(re.escape, found)) if found else r"(?!)")
    return _KNOWN[template_owner]


def _control_tokens(template_owner: Any) -> set[str]:
    """The strings that the tokenizer takes for one token wherever they stand, and the processor's image marks."""
    tokenizer = getattr(template_owner, "tokenizer", template_owner)
    found = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
        text = token.content.strip()
        # Added words that are no control tokens (runs of spaces, units) stay; those in brackets belong to the format.
        if token.special or (text[:1] in "<[" and text[-1:] in ">]"):
            found.add(text)
    for name in ("image_token", "boi_token", "eoi_token", "video_token", "audio_token", "fake_image_token"):
        mark = getattr(template_owner, name, None)
        found.add(str(getattr(mark, "content", mark) or ""))
    return {text for text in found if text.strip()}


_PROBES = tuple(f"\u2983{number}\u2984" for number in range(4))
_HEADER = re.compile(r"#{0,6} ?[A-Za-z][\w /-]{0,30}:|#{1,6} ?[A-Za-z][\w /-]{0,30}")
"""A line that heads a turn; plain words of a template (a system line of its own) are none."""
_IN_BRACKETS = re.compile(r"<{1,2}[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]{2,20}\]")


def _headers(template_owner: Any, tokens: set[str]) -> set[str]:
    """What the chat template writes around turns as plain text.

    Args:
        template_owner: A processor or tokenizer.
        tokens: Its control tokens, which are known already.
    """
    turns = [("system", _PROBES[0]), ("user", _PROBES[1]), ("assistant", _PROBES[2]), ("user", _PROBES[3])]
    text = ""
    for some in (turns, turns[1:]):  # without a system line, where the template has no place for one
        for parts in (False, True):
            messages = [{"role": r, "content": [{"type": "text", "text": c}] if parts else c} for r, c in some]
            try:
                text += str(template_owner.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
            except Exception:  # noqa: S112 - this template takes another form, or none at all
                continue
    between = re.split("|".join(map(re.escape, (*_PROBES, *sorted(filter(None, tokens), key=len, reverse=True)))), text)
    lines = {line.strip() for piece in between for line in piece.splitlines()}
    words = {word for piece in between for word in _IN_BRACKETS.findall(piece)}
    return {line for line in lines if _HEADER.fullmatch(line)} | words


def _plain(found: re.Match[str]) -> str:
    """The mark as words: round brackets, no colon, no `#`; a space behind the first character where it has none."""
    text = found[0]
    plain = text.translate(_ROUND).removesuffix(":").lstrip("# ")
    return plain if plain != text else f"{text[0]} {text[1:]}"

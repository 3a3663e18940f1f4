"""What all pages have in common: one frame, a table of contents, and figures that do not disturb each other."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import version
from typing import Any

from mint_core.templates import template

_CONTENTS = "<!-- contents -->"
_HEADING = re.compile(r"<h2>(.*?)</h2>", re.DOTALL)
_FIGURE = re.compile(r"<svg\b.*?</svg>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_WIDTH = re.compile(r'<svg\b[^>]*?\bwidth="([\d.]+)pt"')
_NARROW = 300
"""Points: the width up to which a figure fits a phone."""
_ID = re.compile(r'(\bid="|\bhref="#|url\(#)')


def render(name: str, **content: Any) -> str:
    """Renders a page that extends `frame.html.jinja`; all text is escaped.

    Headings of the second level get anchors and stand in the table of contents, and the ids of each figure get a prefix
    of their own: matplotlib gives the same ones to every figure.

    Args:
        name: The template.
        **content: What it shows.
    """
    page = template("report", name).render(mint=version("mint-core"), **content)
    return _with_contents(_with_own_ids(page))


def _with_own_ids(page: str) -> str:
    """Prefixes all ids within the n-th figure, and what refers to them, with `fn-`; text stays as it is.

    A figure that is wider than a phone gets a box of its own, in which it can be moved.
    """
    found = 0

    def figure(match: re.Match[str]) -> str:
        nonlocal found
        found += 1
        own = rf"\g<1>f{found}-"
        drawn = _TAG.sub(lambda tag: _ID.sub(own, tag[0]), match[0])
        width = _WIDTH.match(drawn)
        return f'<div class="wide">{drawn}</div>' if width and float(width[1]) > _NARROW else drawn

    return _FIGURE.sub(figure, page)


def _with_contents(page: str) -> str:
    """Gives headings their anchors, and puts the table of contents in its place."""
    seen: Counter[str] = Counter()
    entries = []

    def heading(match: re.Match[str]) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", match[1].lower()).strip("-") or "chapter"
        seen[slug] += 1
        anchor = slug if seen[slug] == 1 else f"{slug}-{seen[slug]}"
        entries.append(f'<li><a href="#{anchor}">{match[1]}</a></li>')
        return f'<h2 id="{anchor}">{match[1]}</h2>'

    page = _HEADING.sub(heading, page)
    listed = "\n".join(entries)
    nav = f'<nav aria-label="Contents"><ul>\n{listed}\n</ul></nav>' if entries else ""
    return page.replace(_CONTENTS, nav, 1)

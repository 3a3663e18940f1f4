"""What preferences are worth before any training, in sentences: for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mint_core.evaluation.statistics import told, told_plain


def quality_line(content: Mapping[str, Any]) -> str:
    """The main figures in one line, before an alignment begins.

    Args:
        content: Content of quality.json.
    """
    m = content["measures"]
    parts = [f"margin {_nats(m['margin'])}", f"normalised entropy {_number(m['entropy'])}"]
    if m["top_1"]["n"]:
        parts = [
            f"the teacher's Top-1 is {_percent(m['top_1'])}, its Top-{content['k']} {_percent(m['top_k'])} "
            f"(n = {m['top_1']['n']})",
            f"truth promoted in {_percent(m['promoted'])}",
            *parts,
        ]
    return f"Preferences: {', '.join(parts)}."


def quality_told(content: Mapping[str, Any]) -> list[str]:
    """All that is known of the preferences, with intervals.

    Args:
        content: Content of quality.json, with `student` where it was asked.
    """
    m, lines = content["measures"], []
    if m["top_1"]["n"]:
        lines.append(
            f"Teacher, before the truth is placed: right label first in {told(m['top_1'])} % of {m['top_1']['n']} "
            f"labelled training samples, among its best {content['k']} in {told(m['top_k'])} %."
        )
    if m["promoted"]["n"]:
        lines.append(
            f"Strategy '{content['strategy']}': it moved the truth to the front in {told(m['promoted'])} %, and put it "
            f"among the chosen labels from outside of the best {content['k']} in {told(m['brought_in'])} %."
        )
    if m["margin"]["n"]:
        lines.append(
            f"Margin of the worst chosen over the best rejected label: {_nats(m['margin'])} "
            f"[{m['margin']['low']:.2f}, {m['margin']['high']:.2f}], below 0 in {told(m['reversed'])} % of "
            f"{m['margin']['n']} samples."
        )
    if m["entropy"]["n"]:
        lines.append(f"Normalised entropy of the teacher (0 = sure, 1 = knows nothing): {told_plain(m['entropy'], 2)}.")
    return lines + (_student_told(content["student"]) if "student" in content else [])


def _student_told(asked: Mapping[str, Any]) -> list[str]:
    m = asked["measures"]
    if not m:
        return []
    lines = [
        f"Base student, asked for {asked['n']} of {asked['of']} groups: it orders {told(m['agrees'])} % of the pairs "
        f"as the teacher does; mean log odds ratio {told_plain(m['log_odds_ratio'], 2)}; "
        f"of the odds-ratio term's gradient {told(m['weight'])} % is left, in {told(m['dead'])} % of the pairs less "
        "than 5 %."
    ]
    if m["dead"]["mean"] > 1 / 2:
        lines.append(
            "ORPO's odds-ratio term is dead from the start for most pairs: they are too easy. Next step: harder "
            "rejected labels (--strategy near-miss), or --aligner sft, which reads the chosen ones alone."
        )
    return lines


def _percent(one: Mapping[str, Any]) -> str:
    return "-" if one["mean"] is None else f"{100 * one['mean']:.1f} %"


def _number(one: Mapping[str, Any]) -> str:
    return "-" if one["mean"] is None else f"{one['mean']:.2f}"


def _nats(one: Mapping[str, Any]) -> str:
    return f"{_number(one)} nats"

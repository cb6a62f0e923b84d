"""The small texts of a report: numbers, durations, choices and differences as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from heuretic.study.importance import Importance
from heuretic.study.report_figures import Dot, num
from heuretic.symbolic.diffs import ABSENT, Change


def esc(value: Any) -> str:
    return escape(str(value))


def as_unicode(text: str) -> str:
    """Return text that can be written as UTF-8: half characters, as in undecodable file names, become '?'."""
    return text.encode("utf-8", "replace").decode("utf-8")


def figure_html(name: str, title: str, static: str, caption: str) -> str:
    return (
        f'<figure id="{name}"><div class="plot" role="group" aria-label="{esc(title)}"></div>'
        f'<div class="static">{static}</div><figcaption>{caption}</figcaption></figure>'
    )


def gain(before: Dot | None, dot: Dot) -> str:
    return (
        f"{dot.value - before.value:+.4g}"
        if before is not None and dot.value is not None and before.value is not None
        else ""
    )


def evidence(item: Importance) -> str:
    if item.groups < 2:
        return "only one value was tried"
    if item.noise >= 1:
        return f"too few trials ({num(item.trials)}) for {item.groups} values"
    where = f"{num(item.trials)} trials, {item.groups} groups"
    return where if item.certain else f"{where}: could be chance (up to {100 * item.noise:.2g}%)"


def diff_html(changes: Sequence[Change], limit: int) -> str:
    lines = [_change_html(change) for change in changes[:limit]]
    more = (
        f'<p class="soft">{num(len(changes) - limit)} more differences are left out.</p>'
        if len(changes) > limit
        else ""
    )
    return f'<pre class="diff">{chr(10).join(lines) or "(no difference)"}</pre>{more}'


def _change_html(change: Change) -> str:
    place = str(change.path) or "(root)"
    before = (
        str(Change(change.path, change.before, ABSENT)).removeprefix(f"- {place}: ")
        if change.before is not ABSENT
        else ""
    )
    after = (
        str(Change(change.path, ABSENT, change.after)).removeprefix(f"+ {place}: ")
        if change.after is not ABSENT
        else ""
    )
    sign = "+" if not before else "-" if not after else "~"
    shown = [f"<del>{esc(before)}</del>"] * bool(before) + [f"<ins>{esc(after)}</ins>"] * bool(after)
    return f"{sign} <b>{esc(place)}</b>: {' → '.join(shown)}"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def choice_text(value: Any) -> str:
    """Return a chosen value as text; a string that reads like another value keeps its quotes."""
    if not isinstance(value, str):
        return num(value) if isinstance(value, float) else repr(value)
    return (
        repr(value)
        if value in ("", "None", "True", "False") or re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?", value)
        else value
    )


def short_choice(value: Any) -> str:
    return clip(choice_text(value), 40)


def clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plotly_label(text: str, limit: int = 44) -> str:
    """Return text for a Plotly label, which reads some HTML."""
    return escape(clip(text, limit))


def counted(n: int, noun: str) -> str:
    return f"{num(n)} {noun}{'' if n == 1 else 's'}"


def breakable(name: str) -> str:
    """Return a path that may be broken before its dots and brackets."""
    return re.sub(r"(?=[.\[_])", "<wbr>", esc(name))


def last_line(error: str) -> str:
    """Return the line that says what went wrong, with addresses blotted out so that equal errors are equal."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", lines[-1]) if lines else "(no traceback was recorded)"


def without_password(address: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", address)


def duration_text(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def load_text(spent: float, span: float) -> str:
    """Return how much of the wall-clock time went into evaluations."""
    if span <= 0:
        return ""
    return (
        f"{spent / span:.1f} evaluations at once"
        if spent >= 1.05 * span
        else f"{100 * spent / span:.0f}% of it evaluating"
    )


def date_text(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return "unknown"

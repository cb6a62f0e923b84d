"""Dates as pages of results write them: "3 days ago", "5 weeks ago", "Mar 5, 2024", told as days."""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
"""A month in small letters, as a pattern; what is written together before or after it is up to who uses it."""
_MONTH = rf"(?P<month>{MONTH})\.?"
_YEAR = r"(?P<year>\d{4})"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_UNIT = r"(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|mos?|months?|y|yrs?|years?)"
_COUNTED = "one two three four five six seven eight nine ten eleven twelve"
_FEW = {
    "a": 1, "an": 1, "a few": 3, "several": 3, "a couple of": 2, "couple of": 2, "a couple": 2,
    **{word: number for number, word in enumerate(_COUNTED.split(), 1)},
}  # fmt: skip
_NUMBER = r"(?<![\d.,])\d[\d,]*(?:\.\d+)?"
_COUNT = rf"(?P<count>{_NUMBER}|(?<![\w-])(?:{'|'.join(sorted(_FEW, key=len, reverse=True))}))"
_AGO = re.compile(rf"{_COUNT}\+?\s*{_UNIT}\b\.?\s*(?:ago\b|before\Z)")
_WITHIN = re.compile(rf"\bin {_COUNT} {_UNIT}\b")
_BARE = re.compile(rf"(?P<count>\d+)\s?{_UNIT}")
_LAST = re.compile(r"\b(?:last|past) (?P<unit>day|week|month|year)\b")
_BEFORE_YESTERDAY = re.compile(r"\bday before yesterday\b")
_WORDS = (
    (re.compile(r"\byesterday\b"), -1),
    (re.compile(r"\btomorrow\b"), 1),
    (re.compile(r"\b(?:today|tonight|just now|moments? ago|right now|now)\b"), 0),
)
_WRITTEN = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<!\d){_YEAR}[-/.](?P<number>\d{{1,2}})[-/.](?P<day>\d{{1,2}})(?!\d)",
        rf"(?<!\d){_YEAR}(?P<number>\d{{2}})(?P<day>\d{{2}})(?!\d)",
        rf"\b{_MONTH}\s+{_DAY}(?:\s*,\s*|\s+){_YEAR}\b",
        rf"(?<!\d){_DAY}[\s-]+(?:of\s+)?{_MONTH}[\s,-]+{_YEAR}\b",
        rf"(?<!\d)(?P<number>\d{{1,2}})/(?P<day>\d{{1,2}})/{_YEAR}(?!\d)",
        rf"(?<!\d)(?P<day>\d{{1,2}})\.(?P<number>\d{{1,2}})\.{_YEAR}(?!\d)",
        rf"\b{_MONTH}\s*,?\s+{_YEAR}\b",
        rf"(?<!\d){_YEAR}[-/](?P<number>\d{{2}})(?!\d)",
        rf"\b{_MONTH}\s+{_DAY}\b",
        rf"(?<!\d){_DAY}\s+{_MONTH}\b",
        rf"\A{_YEAR}\Z",
    )
)
_MONTH_DAYS = 30.44
_SHORT = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def normalised(text: str, today: date | str) -> str:
    """Return the day that a text names, as YYYY-MM-DD; empty if it names none.

    Seconds, minutes and hours ago are today; weeks ago are 7 days each, months and years ago go by the calendar and end with the
    month. Of a month without day, or a year alone, the first day is taken; of a day without year, the last such day that is
    not after `today`. "A few" and "several" are 3. 3/4/2024 is March 4.

    Args: today: The day from which relative ones count, a date or YYYY-MM-DD.
    Raises: ValueError if `today` is no day.
    """
    now = given_day(today)
    said = " ".join(text.casefold().split())
    try:
        found = _relative(said, now) or _absolute(said, now)
    except (ValueError, OverflowError):  # such as February 30, or before year 1
        return ""
    return found.isoformat() if found else ""


def given_day(today: date | str) -> date:
    """Return a day given as a date or as YYYY-MM-DD. Raises: ValueError if it is neither."""
    if isinstance(today, date):
        return date(today.year, today.month, today.day)
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", today):
        raise ValueError(f"today must be YYYY-MM-DD, got {today!r}")
    return date.fromisoformat(today)


def short_day(found: date) -> str:
    """Return a day as "Mar 05, 2024", in English whatever the locale."""
    return f"{_SHORT[found.month - 1]} {found.day:02d}, {found.year:04d}"


def long_day(found: date) -> str:
    """Return a day as "March 05, 2024", in English whatever the locale."""
    return f"{_LONG[found.month - 1]} {found.day:02d}, {found.year:04d}"


def _relative(said: str, now: date) -> date | None:
    if _BEFORE_YESTERDAY.search(said):
        return now - timedelta(days=2)
    for pattern, sign in ((_AGO, -1), (_WITHIN, 1)):
        if found := pattern.search(said):
            return _moved(now, sign * _count(found["count"]), found["unit"])
    if found := _BARE.fullmatch(said):
        return _moved(now, -int(found["count"]), found["unit"])
    if found := _LAST.search(said):
        return _moved(now, -1, found["unit"])
    for pattern, days in _WORDS:
        if pattern.search(said):
            return now + timedelta(days=days)
    return None


def _count(text: str) -> float:
    return _FEW[text] if text in _FEW else float(text.replace(",", ""))


def _moved(now: date, count: float, unit: str) -> date:
    if unit.startswith("y") or (unit.startswith("mo") and count == int(count)):
        return _months(now, round(12 * count if unit.startswith("y") else count))
    days = {"w": 7, "d": 1, "m": _MONTH_DAYS if unit.startswith("mo") else 0}.get(unit[0], 0)
    return now + timedelta(days=round(days * count))


def _months(now: date, count: int) -> date:
    whole = now.year * 12 + now.month - 1 + count
    year, month = divmod(whole, 12)
    return date(year, month + 1, min(now.day, calendar.monthrange(year, month + 1)[1]))


def _absolute(said: str, now: date) -> date | None:
    for pattern in _WRITTEN:
        found = pattern.search(said)
        if found is None:
            continue
        parts = found.groupdict()
        month = int(parts["number"]) if parts.get("number") else 1
        if parts.get("month"):
            month = _MONTHS.index(parts["month"][:3]) + 1
        number = int(parts.get("day") or 1)
        if parts.get("year"):
            year = int(parts["year"])
            if parts.get("number") and month > 12 and pattern.pattern.find("/(?P<day>") > 0:
                month, number = number, month  # 25/12/2024
            return date(year, month, number)
        same = next(d for k in range(9) if (d := _day_of(now.year - k, month, number)) and d <= now)
        return same
    return None


def _day_of(year: int, month: int, number: int) -> date | None:
    """Return a day, None where that year has none (February 29)."""
    try:
        return date(year, month, number)
    except ValueError:
        if (month, number) == (2, 29):
            return None
        raise

"""Dates as search services write them."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_AGO = re.compile(
    r"(?:about |over )?(\d+|an?|one)\s*(second|sec|minute|min|hour|hr|day|week|month|year)s?\s+ago", re.IGNORECASE
)
_NOW = re.compile(r"(?:just )?now|today|(?:earlier|later) today", re.IGNORECASE)


def normalised(text: str, today: date) -> str:
    """Return a date as YYYY-MM-DD, empty if the text is none.

    Args:
        text: Such as "3 days ago", "5 weeks ago", "2 months ago", "yesterday", "Mar 5, 2024", "March 2024", "2024-03-05T10:00:00Z".
            Where a day or month is missing, the first is meant; where a year is missing, the last such day that is not after today.
        today: From which relative dates count.
    """
    text = " ".join(text.split()).strip(" .,·—-")
    if not text:
        return ""
    if found := _AGO.fullmatch(text):
        count = 1 if found[1].lower() in ("a", "an", "one") else int(found[1])
        return _before(today, count, found[2].lower())
    if _NOW.fullmatch(text):
        return today.isoformat()
    if text.lower() == "yesterday":
        return (today - timedelta(days=1)).isoformat()
    return _absolute(text, today)


def _before(today: date, count: int, unit: str) -> str:
    try:
        if unit == "day":
            return (today - timedelta(days=count)).isoformat()
        if unit == "week":
            return (today - timedelta(weeks=count)).isoformat()
        if unit in ("month", "year"):
            months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
            return _clamped(months // 12, months % 12 + 1, today.day)
    except (ValueError, OverflowError):
        return ""
    return today.isoformat()  # seconds, minutes and hours: of today, as services round


def _clamped(year: int, month: int, day: int) -> str:
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day
    return date(year, month, min(day, last)).isoformat()


def _absolute(text: str, today: date) -> str:
    from dateutil import parser

    if not re.search(r"\d", text):
        return ""
    try:
        one, other = (parser.parse(text, default=datetime(year, 1, 1)).date() for year in (today.year, 2000))
    except (ValueError, OverflowError, TypeError):
        return ""
    if one.year == other.year:
        return one.isoformat()
    return (
        one if one <= today else one.replace(year=one.year - 1, day=min(one.day, 28) if one.month == 2 else one.day)
    ).isoformat()

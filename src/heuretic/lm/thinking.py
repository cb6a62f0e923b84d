"""Reasoning in tags, which some models write before they answer, and which is no part of what they say."""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "reasoning")
_OPENINGS, _ENDINGS = tuple(f"<{name}>" for name in _NAMES), tuple(f"</{name}>" for name in _NAMES)
_TAG = "|".join(_NAMES)
_THOUGHT = re.compile(rf"<({_TAG})>(.*?)(</\1>|\Z)", re.DOTALL)
_THOUGHT_FIRST = re.compile(rf"\A((?:(?!<(?:{_TAG})>).)*?)</(?:{_TAG})>", re.DOTALL)
"""Some models' prompts open the tag, so that only its end is in the text."""
_OPENED = re.compile(rf"<(?:{_TAG})>\s*\Z")


def said_and_thought(text: str) -> tuple[str, list[str], bool]:
    """Return what a text says, the reasoning in it piece by piece, and whether the last piece was never closed."""
    if "<" not in text:
        return text, [], False
    thoughts: list[str] = []
    if first := _THOUGHT_FIRST.match(text):
        thoughts.append(first[1])
        text = text[first.end() :].lstrip("\n")
    found = list(_THOUGHT.finditer(text))
    said = _THOUGHT.sub("", text).strip("\n") if found else text
    return said, [*thoughts, *(each[2] for each in found)], any(not each[3] for each in found)


def opening(prompt: str) -> str:
    """Return the tag that a prompt ends with, so that what is said next is reasoning; "" if it ends with none."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""


def said_from(text: str) -> int | None:
    """Return the place after the last reasoning in a text that is being written, 0 if there is none; None inside of it."""
    opened = max(text.rfind(tag) for tag in _OPENINGS)
    closed = max((place + len(tag) for tag in _ENDINGS if (place := text.rfind(tag)) >= 0), default=0)
    return None if opened >= closed else closed

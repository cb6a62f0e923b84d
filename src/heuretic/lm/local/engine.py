"""Many requests to one model: a thread of its own steps all their sequences together, and new ones join between steps."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from heuretic.lm.local.decoder import Decoder, Row, Segment
from heuretic.lm.local.draws import Draw, pick
from heuretic.lm.thinking import said_from

_SHARED = 32
"""Fewest tokens that two prompts must have in common for their keys and values to be kept once."""
_COPIED = 300
"""Up to so many tokens, over all choices of a prompt, are copied beside each choice: reading them apart costs more."""
_AT_ONCE = 64
"""For so many choices the first token is picked at once: their logits take memory."""
_REMEMBERED = 32
"""So many of the last prompts are looked through for a common beginning."""


class Tokenizer(Protocol):
    """Text to tokens and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token that was picked, its log-probability by the model in nats (before temperature), and the likeliest ones."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass
class Choice:
    """One sample under way, and in the end its text."""

    number: int
    draw: Draw
    numbers: np.random.Generator
    tokens: list[int] = field(default_factory=list)
    chances: list[TokenChance] = field(default_factory=list)
    text: str = ""
    ended: str | None = None  # "stop", "max_tokens" or "model_length"
    _shown: int = 0
    _read: int = 0


@dataclass(eq=False)
class Request:
    """What is asked of the engine.

    Attributes:
        prompt: Token ids, at least one. choices: The samples to draw.
        max_tokens: Most tokens of a choice. stop: Texts that end it, and are not part of it. ends: Tokens that end it.
        opening: The tag that the prompt ends with, if choices begin with reasoning; it becomes part of their texts.
        chances: Whether log-probabilities are wanted, and top: of how many of the likeliest tokens beside it.
        scored: If > 0, nothing is generated: the log-probabilities of the last `scored` tokens of the prompt are wanted.
        done: Called in the engine's thread, with None or an exception.
        cancelled: Set from outside: nobody waits any longer.
    """

    prompt: list[int]
    choices: list[Choice]
    max_tokens: int
    stop: tuple[str, ...]
    ends: frozenset[int]
    done: Callable[[BaseException | None], None]
    opening: str = ""
    chances: bool = False
    top: int = 0
    scored: int = 0
    cancelled: bool = False
    processed: int = 0
    spared: int = 0
    scores: list[float] = field(default_factory=list)
    finished: int = 0


@dataclass(eq=False)
class _Reading:
    """A prompt being read: its segments in order, and what is still to be done."""

    request: Request
    before: tuple[tuple[Segment, int], ...]
    own: list[Segment]
    done: int = 0  # tokens of `own` processed
    logits: Tensor | None = None  # after the last token


@dataclass(eq=False)
class _Live:
    """A choice in a slot."""

    request: Request
    choice: Choice
    before: tuple[tuple[Segment, int], ...]
    offset: int  # tokens in the slot
    position: int  # tokens in the sequence that have been processed
    copied: Segment | None = None  # what is to be put at the beginning of the slot


class Engine:
    """Steps all sequences of one model.

    Args:
        decoder: The model. tokenizer: For texts that stop a sample. context: Most tokens of a sequence.
        threads: For computing. room: Most tokens in all slots together; a sequence counts with the longest it may become.
        chunk: Most prompt tokens in a step, so that long prompts do not hold up the others.
        kept: Most tokens of shared beginnings that are kept for later requests.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        context: int,
        threads: int,
        *,
        room: int,
        chunk: int = 512,
        kept: int = 4096,
    ) -> None:
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.context = context
        self.room = room
        self.chunk = chunk
        self.kept = kept
        self.steps = 0
        self._threads = threads
        self._inbox: deque[Request] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._waiting: deque[Request] = deque()
        self._open: set[Request] = set()
        self._reading: list[_Reading] = []
        self._ready: deque[_Live] = deque()
        self._live: list[_Live] = []
        self._segments: list[Segment] = []
        self._recent: deque[np.ndarray] = deque(maxlen=_REMEMBERED)
        self._clock = itertools.count()
        self._thread: threading.Thread | None = None

    def submit(self, request: Request) -> None:
        """Queue a request; its `done` is called in the end."""
        with self._wake:
            if self._closed:
                raise RuntimeError("the model has been closed")
            self._inbox.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heuretic-model", daemon=True)
                self._thread.start()
                # A thread that is in torch when the interpreter ends aborts the process.
                atexit.register(self.close)
            self._wake.notify()

    def close(self) -> None:
        """End the thread; requests under way fail."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)

    @torch.inference_mode()
    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while True:
            with self._wake:
                while not (self._inbox or self._waiting or self._reading or self._ready or self._live or self._closed):
                    self._wake.wait()
                    self._gather()
                closed = self._closed
                self._waiting += self._inbox
                self._open.update(self._inbox)
                self._inbox.clear()
            if closed:
                self._fail(RuntimeError("the model has been closed"))
                return
            try:
                self._turn()
            except Exception as error:  # whoever waits is told, and the thread lives on for the next
                self._fail(error)

    def _gather(self) -> None:
        """Wait for requests that come right after the first: a step costs nearly the same for one as for many."""
        end = time.monotonic() + 0.3
        seen = 0
        while len(self._inbox) > seen and not self._closed and time.monotonic() < end:
            seen = len(self._inbox)
            pause = time.monotonic() + 0.008
            while (left := pause - time.monotonic()) > 0:
                self._wake.wait(left)

    def _fail(self, error: BaseException) -> None:
        self._waiting.clear()
        self._reading.clear()
        self._ready.clear()
        self._live.clear()
        self._segments.clear()
        while self._open:
            self._open.pop().done(error)

    def _close_request(self, request: Request) -> None:
        self._open.discard(request)
        request.done(None)

    # ---- one turn ----

    def _turn(self) -> None:
        self._drop_cancelled()
        self._open = {request for request in self._open if not request.cancelled}
        self._seat()
        while self._waiting and self._budget() > 0 and len(self._live) + len(self._ready) < self.decoder.slots:
            self._begin(self._waiting.popleft())
        rows = [
            Row([live.choice.tokens[-1]], live.position, live.before, k, live.offset)
            for k, live in enumerate(self._live)
        ]
        parts: list[tuple[_Reading, Row]] = []
        budget = self.chunk
        for reading in self._reading:
            for row in self._rows_of(reading, budget):
                parts.append((reading, row))
                budget -= len(row.tokens)
            if budget <= 0:
                break
        rows += [row for _, row in parts]
        if not rows:
            return
        logits = self.decoder.step(rows)
        self.steps += 1
        count = len(self._live)
        if count:
            for live in self._live:
                live.offset += 1
                live.position += 1
            self._advance([(x.request, x.choice) for x in self._live], logits[:count])
        at = count
        for reading, row in parts:
            if row.wanted:
                self._note(reading, row, logits[at : at + row.wanted])
                at += row.wanted
            reading.done += len(row.tokens)
        self._leave()
        for reading in [r for r in self._reading if r.done == sum(len(s.tokens) for s in r.own)]:
            self._reading.remove(reading)
            self._finish_reading(reading)

    def _note(self, reading: _Reading, row: Row, logits: Tensor) -> None:
        """Keep what is wanted of the logits [wanted, vocabulary] after the last tokens of a row of a prompt."""
        request = reading.request
        if not request.scored:
            reading.logits = logits
            return
        end = row.position + len(row.tokens)
        following = torch.tensor(request.prompt[end - row.wanted + 1 : end + 1])
        logprobs = logits[: len(following)].log_softmax(-1)
        request.scores += logprobs.gather(1, following[:, None])[:, 0].tolist()

    def _budget(self) -> int:
        return self.chunk - sum(sum(len(s.tokens) for s in r.own) - r.done for r in self._reading)

    def _drop_cancelled(self) -> None:
        for request in [r for r in self._waiting if r.cancelled]:
            self._waiting.remove(request)
        for reading in [r for r in self._reading if r.request.cancelled]:
            if any(segment.users > 1 for segment in reading.own):
                continue  # others wait for what is being read
            self._reading.remove(reading)
            self._release(reading.before)
            for segment in reading.own:
                segment.users = 0
                if segment in self._segments:
                    self._segments.remove(segment)
                    self._release(segment.before)
        for live in [live for live in self._ready if live.request.cancelled]:
            self._ready.remove(live)
            self._release(live.before)
        for k in reversed([k for k, live in enumerate(self._live) if live.request.cancelled]):
            self._vacate(k)

    def _begin(self, request: Request) -> None:
        """Find what is known of a prompt, and make segments for the rest."""
        prompt = np.array(request.prompt, dtype=np.int32)
        most = len(prompt) - max(1, request.scored + 1)  # logits are wanted from there on
        before = self._known(request.prompt, most)
        known = sum(n for _, n in before)
        head = max((min(_common(prompt, other), most) for other in self._recent), default=0)
        head = max(
            [
                head,
                *(min(_common(prompt, np.array(r.prompt, np.int32)), most) for r in itertools.islice(self._waiting, 8)),
            ]
        )
        self._recent.append(prompt)
        request.spared, request.processed = known, len(prompt) - known
        own, start, chain = [], known, before
        cuts = [head, len(prompt)] if head - known >= _SHARED else [len(prompt)]
        for end in cuts:
            segment = Segment(request.prompt[start:end], chain, start, users=1, used=next(self._clock))
            own.append(segment)
            chain = (*chain, (segment, end - start))
            start = end
        if len(own) > 1:
            self._segments.append(own[0])
            for parent, _ in before:
                parent.users += 1
        for parent, _ in before:
            parent.users += 1
        self._reading.append(_Reading(request, before, own))

    def _known(self, prompt: list[int], most: int) -> tuple[tuple[Segment, int], ...]:
        """Return the longest chain of kept segments that the first `most` tokens of a prompt begin with."""
        best: tuple[tuple[Segment, int], ...] = ()
        length = 0
        for segment in self._segments:
            if segment.start > most or (segment.filled < len(segment.tokens) and not self._coming(segment)):
                continue
            if segment.start and not all(prompt[s.start : s.start + n] == s.tokens[:n] for s, n in segment.before):
                continue
            room = prompt[segment.start : min(most, segment.start + len(segment.tokens))]
            common = _common(np.array(room, np.int32), np.array(segment.tokens[: len(room)], np.int32))
            if common >= _SHARED and segment.start + common > length:
                best, length = (*segment.before, (segment, common)), segment.start + common
        for segment, _ in best:
            segment.used = next(self._clock)
        return best

    def _coming(self, segment: Segment) -> bool:
        """Whether a segment is being read, earlier in the order of reading than whatever begins now."""
        return any(segment in r.own for r in self._reading)

    def _rows_of(self, reading: _Reading, budget: int) -> list[Row]:
        """Return the next rows of a prompt, of `budget` tokens at most; cut where a segment ends."""
        rows, skipped, done = [], 0, reading.done
        length = len(reading.request.prompt)
        wanted = length - reading.request.scored - 1  # position of the first token whose logits are wanted
        for segment in reading.own:
            at = done - skipped
            skipped += len(segment.tokens)
            if at >= len(segment.tokens) or budget <= 0:
                continue
            tokens = segment.tokens[at : at + budget]
            end = segment.start + at + len(tokens)
            rows.append(
                Row(tokens, segment.start + at, segment.before, segment, at, min(len(tokens), max(0, end - wanted)))
            )
            done += len(tokens)
            budget -= len(tokens)
        return rows

    def _finish_reading(self, reading: _Reading) -> None:
        request = reading.request
        last = reading.own[-1]
        chain = (*last.before, (last, len(last.tokens)))
        if request.cancelled:
            pass
        elif request.choices and reading.logits is not None:
            copied = len(request.choices) == 1 or len(request.choices) * len(last.tokens) <= _COPIED
            kept = last.before if copied else chain
            for first in range(0, len(request.choices), _AT_ONCE):
                some = request.choices[first : first + _AT_ONCE]
                self._advance([(request, choice) for choice in some], reading.logits.expand(len(some), -1))
            for choice in request.choices:
                if choice.ended:
                    self._ended(request)
                    continue
                for segment, _ in kept:
                    segment.users += 1
                length = len(last.tokens) if copied else 0
                self._ready.append(_Live(request, choice, kept, length, len(request.prompt), last if copied else None))
        self._release(reading.before)
        for segment in reading.own:
            segment.users -= 1
        self._forget()
        if request.scored:
            self._close_request(request)

    def _seat(self) -> None:
        """Give free slots to choices whose prompt has been read."""
        while self._ready and self._fits(self._ready[0]):
            live = self._ready.popleft()
            if live.copied is not None:
                self.decoder.place(live.copied, len(self._live))
                live.copied = None
            self._live.append(live)

    def _fits(self, live: _Live) -> bool:
        """Whether one more choice has a slot and, should all grow as long as they may, room in it."""
        longest = live.offset + live.request.max_tokens - len(live.choice.tokens)
        if not self._live:
            return True
        for live in self._live:
            longest = max(longest, live.offset + live.request.max_tokens - len(live.choice.tokens))
        count = len(self._live) + 1
        return count <= self.decoder.slots and count * min(longest, self.context) <= self.room

    def _advance(self, whom: list[tuple[Request, Choice]], logits: Tensor) -> None:
        """Pick the next token of choices, and see which have come to an end."""
        numbers = [c.numbers.random() if c.draw.temperature > 0 else 0.0 for _, c in whom]
        picked = pick(logits, [c.draw for _, c in whom], numbers)
        tokens = picked.tolist()
        asked = [k for k, (r, _) in enumerate(whom) if r.chances]
        if asked:
            self._note_chances(whom, asked, logits, picked)
        for (request, choice), token in zip(whom, tokens, strict=True):
            if token in request.ends:
                choice.ended = "stop"
                if request.chances:
                    choice.chances.pop()
                choice.text = self.tokenizer.decode(choice.tokens)
                continue
            choice.tokens.append(token)
            if request.stop and self._stopped(request, choice):
                choice.ended = "stop"
            elif len(choice.tokens) >= request.max_tokens:
                choice.ended = "max_tokens"
            elif len(request.prompt) + len(choice.tokens) >= self.context:
                choice.ended = "model_length"
            if choice.ended in ("max_tokens", "model_length"):
                choice.text = self.tokenizer.decode(choice.tokens)

    def _note_chances(
        self, whom: list[tuple[Request, Choice]], asked: list[int], logits: Tensor, picked: Tensor
    ) -> None:
        at = torch.tensor(asked)
        logprobs = logits[at].log_softmax(-1)
        own = logprobs.gather(1, picked[at][:, None])[:, 0].tolist()
        most = max(whom[k][0].top for k in asked)
        values, ids = logprobs.topk(most, -1) if most else (None, None)
        for j, k in enumerate(asked):
            request, choice = whom[k]
            top: Any = ()
            if request.top and values is not None and ids is not None:
                top = tuple(zip(ids[j, : request.top].tolist(), values[j, : request.top].tolist(), strict=True))
            choice.chances.append(TokenChance(int(picked[k]), own[j], top))

    def _stopped(self, request: Request, choice: Choice) -> bool:
        """Look for the texts that end a sample, in what the last token added; not inside reasoning."""
        old = self.tokenizer.decode(choice.tokens[choice._shown : choice._read])
        new = self.tokenizer.decode(choice.tokens[choice._shown :])
        if new.endswith("\ufffd"):  # a character whose bytes have not all come
            return False
        added = new[len(old) :]
        start = len(choice.text)
        choice.text += added
        choice._shown, choice._read = choice._read, len(choice.tokens)
        longest = max(map(len, request.stop))
        said = said_from(request.opening + choice.text)
        if said is None:
            return False
        begin = max(0, start - longest + 1, said - len(request.opening))
        found = [p for p in (choice.text.find(s, begin) for s in request.stop) if p >= 0]
        if not found:
            return False
        choice.text = choice.text[: min(found)]
        return True

    def _leave(self) -> None:
        for k in reversed([k for k, live in enumerate(self._live) if live.choice.ended]):
            request = self._live[k].request
            self._vacate(k)
            self._ended(request)
        self._forget()

    def _ended(self, request: Request) -> None:
        request.finished += 1
        if request.finished == len(request.choices):
            self._close_request(request)

    def _vacate(self, slot: int) -> None:
        live = self._live[slot]
        self._release(live.before)
        last = self._live.pop()
        if last is not live:
            self.decoder.move(len(self._live), slot, last.offset)
            self._live[slot] = last

    def _release(self, chain: tuple[tuple[Segment, int], ...]) -> None:
        for segment, _ in chain:
            segment.users -= 1

    def _forget(self) -> None:
        """Drop kept segments that nobody uses, those longest unused first, until the others are few enough."""
        while sum(len(s.tokens) for s in self._segments) > self.kept:
            idle = [s for s in self._segments if s.users <= 0]
            if not idle:
                return
            oldest = min(idle, key=lambda s: s.used)
            self._segments.remove(oldest)
            self._release(oldest.before)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Return how many tokens two prompts have in common at their beginning."""
    length = min(len(a), len(b))
    differ = np.flatnonzero(a[:length] != b[:length])
    return int(differ[0]) if len(differ) else length

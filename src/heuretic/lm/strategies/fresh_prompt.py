"""Put evidence from a search, the most recent last, before a question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from weakref import WeakKeyDictionary

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

from heuretic.lm.answer import Answer, Sample, Step
from heuretic.lm.model import LanguageModel
from heuretic.lm.parsing import Parse, Whole
from heuretic.lm.questions import Question
from heuretic.lm.replies import Reply
from heuretic.lm.retrieval.dates import given_day, long_day, normalised, short_day
from heuretic.lm.retrieval.evidence import Evidence, Kind, Search
from heuretic.lm.retrieval.passages import pieces_of
from heuretic.lm.sampling import Sampling
from heuretic.lm.strategies.prompting import asked, attempt, exchange, one_attempt
from heuretic.lm.strategies.published_fresh import freshprompt_demonstrations
from heuretic.symbolic import Symbolic, digest, field

CHECK_PREMISE = "\nPlease check if the question contains a valid premise before answering."
_PREFIX = "As of today {today}, the most up-to-date and relevant information regarding this query is as follows. "
_AGO = re.compile(r"(?:second|minute|hour)s? ago")


class Counts(Symbolic):
    """How much evidence of each kind is looked at, and how much of all is shown."""

    organic: int = field(default=15, ge=0, doc="organic results, or documents")
    related: int = field(default=3, ge=0, doc="related questions")
    questions: int = field(default=3, ge=0, doc="questions of forums with answers")
    shown: int = field(default=15, ge=1, doc="pieces of evidence in the prompt")


Shown = tuple[str, Sequence[Evidence], str]
"""A question with what was found for it, and its answer."""
GPT_4 = Counts()
"""For models whose name begins with gpt-4."""
OTHERS = Counts(related=2, questions=2, shown=5)
"""For other models."""


class Demonstration(Symbolic):
    """A question with what was found for it, and its answer."""

    question: str = field(doc="what is asked")
    pieces: tuple[Mapping[str, str], ...] = field(doc="evidence by the names of `Evidence`, in the order of a search")
    answer: str = field(doc="the answer, without its beginning, which is the same in all")


DEMONSTRATIONS: tuple[Demonstration, ...] = (
    Demonstration(
        question="In which year did the Berlin Wall fall?",
        pieces=(
            {"text": "The Berlin Wall fell on 9 November 1989.", "title": "Berlin Wall", "url": "https://en.wikipedia.org/wiki/Berlin_Wall", "highlight": "1989", "kind": "answer"},
            {"text": "The wall divided Berlin from 1961 to 1989.", "title": "Berlin Wall", "url": "https://www.britannica.com/topic/Berlin-Wall", "kind": "organic"},
        ),
        answer="The Berlin Wall fell in 1989.",
    ),
    Demonstration(
        question="Who has won the most Olympic gold medals?",
        pieces=(
            {"text": "Michael Phelps won 23 gold medals, more than any other Olympian.", "title": "Most decorated Olympians", "url": "https://olympics.com/en/athletes/michael-phelps-ii", "date": "2021-07-20", "highlight": "Michael Phelps", "kind": "organic"},
            {"text": "Larisa Latynina held the record with 9 gold medals until 2008.", "title": "Larisa Latynina", "url": "https://www.britannica.com/biography/Larisa-Latynina", "date": "2008-08-10", "kind": "organic"},
        ),
        answer="Michael Phelps has won the most Olympic gold medals, 23.",
    ),
    Demonstration(
        question="How many days are left until the final of the 2022 FIFA World Cup?",
        pieces=(
            {"text": "Argentina beat France on penalties in the final on December 18, 2022.", "title": "2022 FIFA World Cup final", "url": "https://www.fifa.com/worldcup", "date": "2022-12-18", "kind": "organic"},
            {"text": "The final will be played at Lusail Stadium.", "title": "World Cup schedule", "url": "https://www.bbc.com/sport", "date": "2022-11-20", "kind": "organic"},
        ),
        answer="The final of the 2022 FIFA World Cup was played on December 18, 2022. Thus, it has already taken place.",
    ),
    Demonstration(
        question="What is the tallest building in the world?",
        pieces=(
            {"text": "At 828 metres, the Burj Khalifa has been the tallest building since its opening in January 2010.", "title": "Burj Khalifa", "url": "https://www.burjkhalifa.ae/en/", "date": "2023-05-02", "highlight": "Burj Khalifa", "kind": "organic"},
            {"text": "Taipei 101 is the tallest building in the world.", "title": "Taipei 101", "url": "https://www.example.com/towers", "date": "2005-03-01", "kind": "organic"},
        ),
        answer="The tallest building in the world is the Burj Khalifa, at 828 metres.",
    ),
    Demonstration(
        question="When did Norway join the European Union?",
        pieces=(
            {"text": "Norwegians voted against joining in 1972 and in 1994.", "title": "Has Norway ever been in the EU?", "url": "https://www.regjeringen.no/en/", "kind": "related"},
            {"text": "Norway is not a member of the EU, but of the European Economic Area.", "title": "Norway and the EU", "url": "https://www.efta.int/eea", "date": "2022-09-14", "kind": "organic"},
        ),
        answer="Norway has never joined the European Union.",
    ),
)  # fmt: skip
"""In the form of the paper's five, with questions, evidence and answers of our own."""


class FreshPrompt(Symbolic):
    """Look a question up, and answer it after what was found, sorted by date with the most recent evidence next to the question.

    Vu et al. 2023, "FreshLLMs", arXiv:2310.03214, section 4, and freshprompt.ipynb of its authors. Evidence is taken in the order
    organic results, related questions, questions with answers, knowledge graph, answer box, each kind reversed; sorted by date, undated
    first; what is empty is dropped; the last pieces are kept. Departures: the sort is stable, where the published one leaves equal
    dates in any order; demonstrations are our own. With `official` they are the published ones, for which evidence is looked up
    with the same search as for the question, once in a process.
    """

    search: Search = field(doc="looks the question up")
    today: str = field(doc="the day on which the question is asked, YYYY-MM-DD")
    counts: Counts | None = field(default=None, doc="None for what was published for the model's name")
    demonstrations: tuple[Demonstration, ...] = field(default=DEMONSTRATIONS, doc="shown before the question")
    check_premise: bool = field(default=True, doc="ask to check the question's premise")
    official: bool = field(
        default=False,
        doc='show the published demonstrations, and read dates as published: "5 weeks ago" is day 5 of this month, where searches give '
        "dates as they are written",
    )
    parse: Parse = field(default=Whole(), doc="finds the answer in a text")
    sampling: Sampling = field(default=Sampling(max_tokens=256), doc="how replies are drawn")

    def __post_init__(self) -> None:
        given_day(self.today)
        for shown in self.demonstrations:
            pieces_of(shown.pieces)

    async def __call__(self, question: Question | str, model: LanguageModel) -> Answer:
        """Return the answer of one attempt; its outcome is "error" where the search did not answer this question."""
        return await one_attempt(self, question, model)

    async def attempts(
        self, question: Question, model: LanguageModel, n: int, first: int = 0
    ) -> tuple[list[Sample], list[Step]]:
        """Return attempts from samples of one prompt; the question is looked up once."""
        counts = self.counts or (GPT_4 if model.name.rpartition("/")[2].startswith("gpt-4") else OTHERS)
        try:
            found = await self.search(question.text, max(counts.organic, 1))
            shown = await _published(self.search, max(counts.organic, 1)) if self.official else None
        except ConnectionError as error:
            failed = Step("search", question.text, (Reply("", "error", error=str(error)),))
            return [Sample(None, "error", "") for _ in range(n)], [failed]
        messages = self.messages(asked(question), found, counts, shown)
        step = await exchange("fresh prompt", messages, model, n, first, self.sampling)
        return [attempt(reply, self.parse, question) for reply in step.replies], [step]

    def messages(
        self, question: str, found: Sequence[Evidence], counts: Counts = GPT_4, shown: Sequence[Shown] | None = None
    ) -> list[ChatMessage]:
        """Return the whole prompt for what was found, after `shown` or the demonstrations of the field."""
        today = given_day(self.today)
        said = long_day(today)
        if shown is None:
            shown = [(each.question, pieces_of(each.pieces), each.answer) for each in self.demonstrations]
        blocks = [
            block(query, pieces, counts, today, self.official) + f"\nanswer: {_PREFIX.format(today=said)}{answer}"
            for query, pieces, answer in shown
        ]
        ending = f"{CHECK_PREMISE if self.check_premise else ''}\nanswer: "
        text = "".join(blocks).strip() + block(question, found, counts, today, self.official) + ending
        return [
            ChatMessageSystem(
                content=f"You are a helpful assistant. Answer as concisely as possible. Knowledge cutoff: {said}."
            ),
            ChatMessageUser(content="What's today's date?"),
            ChatMessageAssistant(content=f"Today is {said} in Pacific Standard Time."),
            ChatMessageUser(content=text),
        ]


_looked_up: dict[tuple[str, int], list[Shown]] = {}
_looking: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def _published(search: Search, k: int) -> list[Shown]:
    """Return the published demonstrations with what a search finds for them, looked up once."""
    async with _looking.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        key = (digest(search), k)
        if key not in _looked_up:
            _looked_up[key] = [(q, await search(q, k), answer) for q, answer in freshprompt_demonstrations()]
        return _looked_up[key]


def block(question: str, found: Sequence[Evidence], counts: Counts, today: date, official: bool = False) -> str:
    """Return a query with its evidence and the question, as prompts have it."""
    shown = "".join(
        f"\n\nsource: {source_of(piece.url) or None}\ndate: {short_day(day) if day else None}\ntitle: {piece.title or None}"
        f"\nsnippet: {piece.text.strip() or None}\nhighlight: {piece.highlight or None}"
        for piece, day in arranged(found, counts, today, official)
    )
    return f"\n\n\nquery: {question}{shown}\n\nquestion: {question}"


def arranged(
    found: Sequence[Evidence], counts: Counts, today: date, official: bool = False
) -> list[tuple[Evidence, date | None]]:
    """Return the evidence to show with its dates: by kind, each reversed, then stably by date, undated first, and the last of it."""
    most = {
        "organic": counts.organic,
        "related": counts.related,
        "question": counts.questions,
        "knowledge": 1,
        "answer": 1,
    }
    rows: list[tuple[Evidence, date | None]] = []
    for kind, count in most.items():
        of_kind = [piece for piece in found if _kind(piece.kind) == kind][:count]
        rows += [(piece, _day(piece.date, today, official)) for piece in reversed(of_kind)]
    rows.sort(key=lambda row: row[1] or date.min)
    kept = [(p, d) for p, d in rows if d or p.title or p.text.strip() or p.highlight or source_of(p.url)]
    return kept[-counts.shown :]


def _kind(kind: Kind) -> str:
    return "organic" if kind == "document" else kind


def source_of(url: str) -> str:
    """Return the name of the site of an address."""
    return re.sub(r"https?://(?:www\.)?", "", url.strip()).split("/")[0]


def _day(text: str, today: date, official: bool) -> date | None:
    if not text:
        return None
    if official and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return published_day(text, today)
    found = normalised(text, today)
    return date.fromisoformat(found) if found else None


def published_day(text: str, today: date) -> date | None:
    """Return the day that a text names by the published rules, with their faults: "5 weeks ago" is day 5 of this month."""
    if _AGO.search(text):
        return today
    if re.search(r"days? ago", text):
        count = re.search(r"(\d+) days? ago", text)
        return today - timedelta(days=int(count[1])) if count else None
    for part, fuzzy in ((text, True), *((word, False) for word in text.split())):
        found = _parsed(part, today, fuzzy)
        if found is not None:
            return found
    return None


def _parsed(text: str, today: date, fuzzy: bool) -> date | None:
    try:
        from dateutil import parser
    except ImportError as error:
        raise ImportError("official=True must have python-dateutil. Try pip install python-dateutil") from error
    try:
        return parser.parse(text, fuzzy=fuzzy, default=datetime(today.year, today.month, today.day)).date()
    except (ValueError, OverflowError):
        return None

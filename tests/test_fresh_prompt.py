"""FreshPrompt: which evidence is shown, in which order and form."""

import asyncio
from datetime import date

import pytest

import heuretic as hr
from heuretic.lm import Question
from heuretic.lm.retrieval.bm25 import BM25
from heuretic.lm.retrieval.evidence import Evidence
from heuretic.lm.strategies.fresh_prompt import (
    GPT_4,
    OTHERS,
    Counts,
    FreshPrompt,
    arranged,
    block,
    published_day,
    source_of,
)
from heuretic.lm.strategies.self_consistency import SelfConsistency
from scripted import scripted

TODAY = date(2024, 3, 15)
SHELF = BM25.of([Evidence("Paris is the capital.", "France", "https://www.a.org/x", "2024-01-02")])


class Down(hr.Symbolic):
    key: bool = True

    async def __call__(self, query: str, k: int) -> list[Evidence]:
        if not self.key:
            raise ValueError("KEY must be set")
        raise ConnectionError("down did not answer in 5 tries")


looked_up: list[str] = []


class Noting(hr.Symbolic):
    async def __call__(self, query: str, k: int) -> list[Evidence]:
        looked_up.append(query)
        return [Evidence(f"about {query}", kind="organic")]


def test_kinds_are_reversed_and_sorted_by_date_with_undated_first() -> None:
    found = [
        Evidence("answer", kind="answer"), Evidence("graph", kind="knowledge"), Evidence("r1", kind="related"),
        Evidence("r2", kind="related"), Evidence("o1", date="2024-02-01", kind="organic"), Evidence("o2", date="2023-01-01", kind="organic"),
        Evidence("o3", date="2024-02-01", kind="organic"), Evidence("", kind="organic"), Evidence("forum", kind="question"),
    ]  # fmt: skip
    rows = [piece.text for piece, _ in arranged(found, GPT_4, TODAY)]
    assert rows == ["r2", "r1", "forum", "graph", "answer", "o2", "o3", "o1"]
    assert [p.text for p, _ in arranged(found, Counts(organic=1, related=1, shown=3), TODAY)] == [
        "graph",
        "answer",
        "o1",
    ]
    assert len(arranged(found, OTHERS, TODAY)) == 5


def test_a_block_is_as_published() -> None:
    found = [Evidence("Text", "Title", "https://www.site.org/a", "3 days ago", kind="organic"), Evidence("Only text")]
    assert block("Why?", found, GPT_4, TODAY) == (
        "\n\n\nquery: Why?\n\nsource: None\ndate: None\ntitle: None\nsnippet: Only text\nhighlight: None"
        "\n\nsource: site.org\ndate: Mar 12, 2024\ntitle: Title\nsnippet: Text\nhighlight: None\n\nquestion: Why?"
    )
    assert source_of("http://news.org") == "news.org"


@pytest.mark.parametrize(
    ("text", "published", "right"),
    [
        ("5 weeks ago", date(2024, 3, 5), date(2024, 2, 9)),
        ("2 hours ago", TODAY, TODAY),
        ("4 days ago", date(2024, 3, 11), date(2024, 3, 11)),
        ("Jan 5, 2024", date(2024, 1, 5), date(2024, 1, 5)),
        ("gibberish", None, None),
    ],
)
def test_dates_are_read_right_or_as_published(text: str, published: date | None, right: date | None) -> None:
    assert published_day(text, TODAY) == published
    for official, wanted in ((True, published), (False, right)):
        [(_, day)] = arranged([Evidence("x", date=text)], GPT_4, TODAY, official)
        assert day == wanted


def test_the_prompt_has_demonstrations_evidence_and_the_premise() -> None:
    asked: list[str] = []
    strategy = FreshPrompt(search=SHELF, today="2024-03-15")
    answer = asyncio.run(strategy(Question("What is the capital?"), scripted(["It is Paris."], asked)))
    assert answer.answer == "it is paris"
    [prompt] = asked
    assert "Knowledge cutoff: March 15, 2024." in prompt
    assert prompt.count("As of today March 15, 2024, the most up-to-date") == 5
    assert prompt.endswith(
        "source: a.org\ndate: Jan 02, 2024\ntitle: France\nsnippet: Paris is the capital.\nhighlight: None\n\n"
        "question: What is the capital?\nPlease check if the question contains a valid premise before answering.\nanswer: "
    )
    plain = FreshPrompt(search=SHELF, today="2024-03-15", check_premise=False, demonstrations=())
    asyncio.run(plain("What is the capital?", scripted(["x"], asked)))
    assert asked[1].endswith("question: What is the capital?\nanswer: ")


def test_the_official_demonstrations_are_the_published_ones_looked_up_once() -> None:
    asked: list[str] = []
    looked_up.clear()
    strategy = FreshPrompt(search=Noting(), today="2024-03-15", official=True)
    for question in ("One?", "Two?"):
        asyncio.run(strategy(question, scripted(["x"], asked)))
    assert looked_up[0] == "One?"
    assert looked_up[1] == "What year is considered Albert Einstein's annus mirabilis?"
    assert len(looked_up) == 7, "two questions and five demonstrations"
    first, *_, last = asked[0].split("query: ")[1:]
    assert "snippet: about What year is considered" in first
    assert (
        "answer: As of today March 15, 2024, the most up-to-date and relevant information regarding this query is as follows. 1905 is"
        in first
    )
    assert last.startswith("One?")
    assert asked[0].count("query: ") == 6


def test_it_votes_fails_as_an_outcome_and_wants_a_day() -> None:
    strategy = SelfConsistency(of=FreshPrompt(search=SHELF, today="2024-03-15"), samples=3)
    assert asyncio.run(strategy("What is the capital?", scripted(["Paris", "Rome", "Paris."]))).answer == "paris"
    failed = asyncio.run(FreshPrompt(search=Down(), today="2024-03-15")("Why?", scripted([])))
    assert failed.outcome == "error"
    assert failed.trace[0].replies[0].error == "down did not answer in 5 tries"
    with pytest.raises(ValueError, match="KEY must be set"):
        asyncio.run(FreshPrompt(search=Down(key=False), today="2024-03-15")("Why?", scripted([])))
    with pytest.raises(ValueError, match="YYYY-MM-DD"):
        FreshPrompt(search=SHELF, today="today")

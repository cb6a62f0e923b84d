"""SAFE and LongFact: facts split off, judged on evidence, and scored by F1@K."""

import asyncio
import gzip
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai.model import GenerateConfig

import heuretic as hr
from heuretic.evals.addresses import EVALUATIONS
from heuretic.evals.results import Results
from heuretic.evals.running import evaluate
from heuretic.evals.safe import SAFE, FactSplitter, LongFact, Rated, f1_at_k, k_of
from heuretic.evals.safe.f1_at_k import K_MAX, K_MEDIAN, K_OF_CODE, FactCounts, mean_f1_at_k
from heuretic.evals.safe.facts import dates_and_numbers, factscore_demonstrations, listed, nearest, passed_over, tidied
from heuretic.evals.safe.generate import PromptGenerator, generate, read_prompt, write
from heuretic.evals.safe.longfact import POSTAMBLE
from heuretic.evals.safe.prompts import filled, first_fenced
from heuretic.evals.safe.rating import Lookup, Rating, read_verdict
from heuretic.evals.safe.relevance import read_relevance
from heuretic.evals.safe.sentences import merged, sentences_of
from heuretic.lm import Answer, Question, Sample, Sampling
from heuretic.lm.retrieval import Evidence, Recorded, Serper
from scripted import scripted
from services import Asked as Arrived
from services import Sent, Service, openai

# -- F1@K ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "not_supported", "k", "value"),
    [
        (0, 0, 64, 0.0),
        (0, 10, 64, 0.0),
        (64, 0, 64, 1.0),
        (200, 0, 64, 1.0),
        (32, 0, 64, 2 * 1 * 0.5 / 1.5),
        (32, 32, 64, 0.5),
        (64, 64, 64, 2 * 0.5 / 1.5),
        (1, 0, 1, 1.0),
        (1, 3, 1, 2 * 0.25 / 1.25),
        (89, 11, K_MAX, 2 * 0.89 * 0.5 / 1.39),
    ],
)
def test_f1_at_k_follows_its_formula(supported: int, not_supported: int, k: int, value: float) -> None:
    assert f1_at_k(supported, not_supported, k) == pytest.approx(value)


@pytest.mark.parametrize(
    ("supported", "not_supported", "k"), [(1, 1, 0), (1, 1, -1), (-1, 1, 64), (1, -1, 64), (0, -1, 5)]
)
def test_f1_at_k_refuses_what_cannot_be(supported: int, not_supported: int, k: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        f1_at_k(supported, not_supported, k)


def test_more_supported_facts_never_lower_f1_and_more_unsupported_ones_never_raise_it() -> None:
    for k in (1, 5, 64):
        for n in range(6):
            scores = [f1_at_k(s, n, k) for s in range(100)]
            assert scores == sorted(scores)
            assert all(f1_at_k(s, n + 1, k) <= score for s, score in enumerate(scores))


def test_k_is_the_median_or_maximum_of_the_prompt_set() -> None:
    assert (K_MEDIAN, K_MAX, K_OF_CODE) == (64, 178, 100)
    assert k_of([3, 1, 8], "median") == 3
    assert k_of([3, 1, 8, 4], "median") == 4, "3.5 is rounded up"
    assert k_of([3, 1, 8], "max") == 8
    assert k_of([0, 0], "max") == 1, "K is at least 1"
    for counts, which in (([], "max"), ([1, -1], "max"), ([1], "mean")):
        with pytest.raises(ValueError, match="must be"):
            k_of(counts, which)  # pyright: ignore[reportArgumentType]


def test_the_mean_counts_prompts_without_an_answer_and_leaves_irrelevant_facts_out() -> None:
    held = mean_f1_at_k([FactCounts(2, 0, 5, 1), None, FactCounts(0, 0, 3)], 2)
    assert held.value == pytest.approx(1 / 3)
    assert held.count == 3
    assert held.low is not None
    assert FactCounts(1, 2, 3, 4).facts == 10


# -- sentences and facts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He was born in 1950. He died.", ["He was born in 1950.", "He died."]),
        (
            "J. R. Smith met Dr. Who in the U.S. in 1999. He left.",
            ["J. R. Smith met Dr. Who in the U.S. in 1999.", "He left."],
        ),
        ("He lived in the U.S. He moved.", ["He lived in the U.S.", "He moved."]),
        ("He went to St. Louis, Mo. on Jan. 5, 1950.", ["He went to St. Louis, Mo. on Jan. 5, 1950."]),
        ("Yahoo! was sold. Who bought it? Verizon did.", ["Yahoo! was sold.", "Who bought it?", "Verizon did."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("It cost 3.5 million. 20 people came.", ["It cost 3.5 million.", "20 people came."]),
        ("Wow. He won.", ["Wow. He won."]),
        ("He won. Indeed.", ["He won. Indeed."]),
        ("One paragraph.\n\n  Another one.  \n", ["One paragraph.", "Another one."]),
        ("", []),
        ("...", ["..."]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [each for paragraph in sentences_of(text) for each in paragraph] == sentences


@pytest.mark.parametrize(
    ("sentences", "initials", "result"),
    [
        (["He met J.", "R. Smith."], ["J. R."], ["He met J. R. Smith."]),
        (["He met J.", "R. Smith."], [], ["He met J.", "R. Smith."]),
        (["He met J. R. Smith.", "She left."], ["J. R."], ["He met J. R. Smith.", "She left."]),
        (["Yes.", "He did it."], [], ["Yes. He did it."]),
        (["He did it.", "Yes.", "It is so."], [], ["He did it. Yes.", "It is so."]),
        (["He did it.", "and left."], [], ["He did it. and left."]),
        (["lower first.", "Then this."], [], ["lower first.", "Then this."]),
        (["A.", "B.", "He did it."], [], ["A. B. He did it."]),
    ],
)
def test_sentences_that_should_not_have_been_parted_are_put_together(
    sentences: list[str], initials: list[str], result: list[str]
) -> None:
    assert merged(sentences, initials) == result


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("- He is a man.\n- He is old", ("He is a man.", "He is old.")),
        ("Here are the facts:\n* One.\n* Two.", ("One.", "Two.")),
        ("1. One.\n2) Two", ("One.", "Two.")),
        ("  - Indented - with a dash.\n\n- Next", ("Indented - with a dash.", "Next.")),
        ("-\n- \n- Real.", ("Real.",)),
        ("- **Bold**: x\n- He **is** old", ("Bold: x", "He is old.")),
        ("- **He is old.**", ("He is old.",)),
        ("1990. The war ended", ()),
        ("- 1990. The war ended", ("1990. The war ended.",)),
        ("There are no facts.", ()),
        ("", ()),
        ("A well-known state-of-the-art model", ()),
    ],
)
def test_lists_of_facts(text: str, items: tuple[str, ...]) -> None:
    assert listed(text) == items


def test_the_published_reading_cuts_at_every_dash_and_tries_stars_next() -> None:
    assert listed("- Gemini 7 - a mission.\n- Next", official=True) == ("Gemini 7", "a mission.", "Next.")
    assert listed("* One\n* Two", official=True) == ("One", "Two.")
    assert listed("1. One", official=True) == ()
    assert listed("- \n- Real.", official=True) == ("Real.",), (
        "an empty item does not end the program, as it does in the original"
    )


def test_sentences_about_the_answer_itself_have_no_facts() -> None:
    assert passed_over("Sure, here it is.", False)
    assert passed_over("Please note this.", False)
    assert passed_over("Here are the facts.", True)
    assert not passed_over("Here are the facts.", False)
    assert not passed_over("He was sure.", True)


def test_facts_are_tidied_as_far_as_no_entities_are_needed() -> None:
    assert tidied("He was born in Paris.", ["He was born.", "He was born in Paris."]) == ("He was born in Paris.",)
    assert tidied("He is a founding member of X.", ["He is a founding member.", "He is a founding member of X."])[
        0
    ].endswith("g member.")
    assert tidied("He left in 1990.", ["He left.", "He left.", "He left in 1990."]) == ("He left.", "He left in 1990.")
    invented = ["He left in 1990.", "He came in 1985."]
    assert tidied("He left in 1990.", invented) == ("He left in 1990.",), "a number that the sentence has not"
    begun = ["He was born on October 31."]
    assert tidied("He was born on October 31, 1930.", begun) == ("He was born on October 31, 1930.",)
    lost = ["He left.", "He left.", "He was elected."]
    assert tidied("He left in 1990.", lost) == tuple(lost), "without all numbers nothing is touched"


def test_dates_and_numbers() -> None:
    assert dates_and_numbers("Born October 31, 1930, he made 1,200 in May and 7 in 2001-2003.") == {
        "October 31, 1930", "1,200", "7", "2001", "2003",
    }  # fmt: skip
    assert dates_and_numbers("On 5 May 1999 in June 2000") == {"5 May 1999", "June 2000"}
    assert dates_and_numbers("the 1950s") == set()


def test_the_nearest_demonstration_is_that_of_bm25() -> None:
    documents = ["the cat sat", "the dog ran home", "a bird sang the song", "dog dog dog", "and so on"]
    assert nearest("dog", documents, 2) == [3, 1]
    assert nearest("nothing here", documents, 1) == [4], "of equals the last, as a reversed sort gives it"
    assert nearest("dog", documents, 0) == nearest("dog", [], 3) == []


def test_demonstrations_are_those_of_factscore_and_can_be_replaced() -> None:
    shown = factscore_demonstrations()
    assert len(shown) == 21
    prompt = FactSplitter().prompt("He studied theater at a university in Seoul.")
    assert prompt.count("Please breakdown the following sentence into independent facts:") == 9
    assert prompt.startswith("Instructions:\n1. You are given a sentence.")
    assert prompt.endswith("independent facts: He studied theater at a university in Seoul.\n")
    assert "Chung-Ang" in prompt, "the nearest one"
    fewer = hr.replace(FactSplitter(), {"demonstrations": shown[:2], "nearest": 0})
    assert fewer.prompt("X.").count("Please breakdown") == 3


def test_a_response_is_split_by_a_model_that_does_not_always_make_a_list() -> None:
    tries: dict[str, int] = {}

    def script(prompt: str, config: GenerateConfig) -> str:
        sentence = prompt.rstrip().rpartition("facts: ")[2]
        tries[sentence] = tries.get(sentence, 0) + 1
        if sentence.startswith("Never"):
            return "There are no facts in this sentence."
        if sentence.startswith("Lost"):
            return ""
        if sentence.startswith("Late") and tries[sentence] < 3:
            return "Let me think."
        return f"- {sentence}\n- It is so"

    split = asyncio.run(
        FactSplitter()(
            "Sure! Here it is.\nLate one is.\nNever one is.\nLost one is.\nGood one is. Good one is.", scripted(script)
        )
    )
    assert [(each.sentence, each.facts) for each in split.sentences] == [
        ("Sure! Here it is.", ()),
        ("Late one is.", ("Late one is.", "It is so.")),
        ("Never one is.", ()),
        ("Lost one is.", ()),
        ("Good one is.", ("Good one is.", "It is so.")),
        ("Good one is.", ("Good one is.", "It is so.")),
    ]
    assert split.unsplit == ("Lost one is.",), "words without a list say that there are no facts"
    assert tries == {"Late one is.": 3, "Never one is.": 3, "Lost one is.": 3, "Good one is.": 1}
    assert len(split.steps) == 10


@pytest.mark.parametrize(("official", "temperature"), [(False, 0.0), (True, 0.1)])
def test_the_published_splitter_draws_at_another_temperature_than_it_asks_for(
    official: bool, temperature: float
) -> None:
    drawn: list[float | None] = []

    def script(prompt: str, config: GenerateConfig) -> str:
        drawn.append(config.temperature)
        return "nothing"

    asyncio.run(FactSplitter(official=official)("He is old.", scripted(script)))
    assert set(drawn) == {temperature}
    assert len(drawn) == (1 if official else 3)


# -- reading judges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verdict", "official"),
    [
        ("So [Supported]", "supported", "supported"),
        ("So [Not Supported].", "not supported", "not supported"),
        ("So [**Not Supported**].", "not supported", "not supported"),
        ("So [Supported.]", "supported", "supported"),
        ("So [ Supported ]", "supported", "supported"),
        ("As [1] says, so [Supported]", "supported", None),
        ("As [Smith, 2001] says, so [Not Supported]", "not supported", None),
        ("[Supported] at first, but at last [Not Supported]", "not supported", "supported"),
        ("So [supported]", "supported", None),
        ("So [NOT SUPPORTED]", "not supported", None),
        ("So [Not-Supported]", "not supported", None),
        ("So [Unsupported]", "not supported", None),
        ("Not [Supported]", "not supported", "supported"),
        ("Whether it is so or not. [Supported]", "supported", "supported"),
        ("Choose [Supported] or [Not Supported].\n[Supported]", "supported", "supported"),
        ("Final answer: Not Supported.", "not supported", None),
        ("The final answer is **Supported**", "supported", None),
        ("Supported", "supported", None),
        ("It is supported by the evidence.", None, None),
        ("[Partially Supported]", None, None),
        ("[Supported by the knowledge]", None, None),
        ("The statement is [", None, None),
        ("[[Supported]]", "supported", "supported"),
        ("[Supported\n]", "supported", "supported"),
        ("Is it [Not Supported] or [Supported]? I cannot tell.", None, "not supported"),
        ("It is neither [Supported] nor [Not Supported]", None, "supported"),
        ("Either [Supported] or **[Not Supported]**.", None, "supported"),
        ("It isn't [Supported]", "not supported", "supported"),
        ("It isn’t **[Supported]**", "not supported", "supported"),
        ("It cannot be [Supported].", "not supported", "supported"),
        ("It is [Supported], not [Not Supported].", "supported", "supported"),
        ("Is it [Supported]? I cannot tell.", None, "supported"),
        ("", None, None),
    ],
)
def test_verdicts(text: str, verdict: str | None, official: str | None) -> None:
    assert read_verdict(text) == verdict
    assert read_verdict(text, official=True) == official


@pytest.mark.parametrize(
    ("text", "relevant", "official"),
    [
        ("are [Foo].", True, True),
        ("are [Not Foo].", False, False),
        ("as [1] shows, [Not Foo]", False, None),
        ("are [foo]", True, None),
        ("are [Foo.]", True, None),
        ("are [**Not Foo**]", False, None),
        ("are [Foo]? No: [Not Foo]", False, True),
        ("are related", None, None),
        ("[Foo] or [Not Foo]", None, True),
        ("[Not Foo] or [Foo]", None, False),
        ("They are not [Foo].", False, True),
        ("[Not Foo], because not [Foo]", False, False),
    ],
)
def test_relevance(text: str, relevant: bool | None, official: bool | None) -> None:
    assert read_relevance(text) is relevant
    assert read_relevance(text, official=True) is official


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("So:\n```\nA b.\n```\nand\n```\nC.\n```", "A b."),
        ("```text\nA b.\n```", "A b."),
        ("```A b.```", "A b."),
        ("```\n\n```", None),
        ("```\nA b.", None),
        ("A b.", None),
    ],
)
def test_the_first_fenced_block_counts(text: str, block: str | None) -> None:
    assert first_fenced(text) == block


def test_what_is_filled_in_is_never_taken_for_a_slot() -> None:
    assert (
        filled("[STATEMENT] / [RESPONSE]\n", {"STATEMENT": "[RESPONSE] \\1", "RESPONSE": "r"}) == "[RESPONSE] \\1 / r"
    )


def test_evidence_is_shown_as_the_published_code_shows_it() -> None:
    found = (
        Evidence("snippet 1", title="T", kind="organic"), Evidence("who asks", kind="related"),
        Evidence("graph line.", kind="knowledge"), Evidence("snippet", highlight="x", kind="answer", line="answer snippet"),
        Evidence("snippet 2", kind="organic"), Evidence("own words", title="Mine"),
    )  # fmt: skip
    assert Lookup("q", found).text == "answer snippet graph line. snippet 1 snippet 2 Mine: own words"
    assert Lookup("q", ()).text == "No good Google Search result was found"


# -- SAFE ---------------------------------------------------------------------------------------------------------


class Found(hr.Symbolic):
    """A search that finds what the query says, or fails."""

    fails: bool = False
    key: bool = True

    async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
        if not self.key:
            raise ValueError("KEY must be set")
        if self.fails or "unreachable" in query:
            raise ConnectionError("the service did not answer")
        return [Evidence(f"result {n} for {query}", url=f"http://{n}", kind="organic") for n in range(k)]


def judge(labels: dict[str, str], seen: list[str] | None = None) -> Callable[[str, GenerateConfig], str]:
    """Return a script that splits "A is. B is." and gives each fact its verdict; "never" is no verdict at all."""

    def script(prompt: str, config: GenerateConfig) -> str:
        if seen is not None:
            seen.append(prompt)
        if prompt.startswith("Instructions:\n1. You are given a sentence."):
            return "- " + prompt.rstrip().rpartition("facts: ")[2]
        # Revision gives the response last, all others the statement.
        if prompt.startswith("Vague references"):
            statement = prompt.rpartition("STATEMENT:\n")[2].partition("\n\nRESPONSE:")[0]
            return f"Reasoning.\n```\nThe {statement}\n```" if "Bad" not in statement else "no block"
        statement = prompt.rpartition("STATEMENT:\n")[2]
        label = next((label for key, label in labels.items() if key in statement), "Supported")
        if "Foo" in prompt:
            return "[Not Foo]" if label == "irrelevant" else "[1] [Foo]" if label != "unsure" else "Hm."
        if "issue ONE Google Search query" in prompt:
            known = prompt.partition("KNOWLEDGE:\n")[2].partition("\n\nSTATEMENT:")[0]
            return (
                "no query"
                if label == "no query"
                else f"```\n{statement} {0 if known == 'N/A' else known.count(chr(10)) + 1}\n```"
            )
        return (
            "I cannot say."
            if label == "never"
            else f"See [2]. [{label if label in ('Supported', 'Not Supported') else 'Supported'}]"
        )

    return script


def safe(**changes: Any) -> SAFE:
    return hr.replace(SAFE(search=Found(), tries=2), changes) if changes else SAFE(search=Found(), tries=2)


def rated(rater: SAFE, response: str, labels: dict[str, str], seen: list[str] | None = None) -> Rated:
    return asyncio.run(rater("Who is he?", response, scripted(judge(labels, seen))))


def test_facts_are_revised_judged_and_keep_their_evidence() -> None:
    labels = {"Second": "Not Supported", "Third": "irrelevant"}
    found = rated(safe(), "First fact is. Second fact is. Third fact is.", labels)
    assert [(each.fact, each.revised, each.label) for each in found.facts] == [
        ("First fact is.", "The First fact is.", "supported"),
        ("Second fact is.", "The Second fact is.", "not supported"),
        ("Third fact is.", "The Third fact is.", "irrelevant"),
    ]
    first = found.facts[0]
    assert [lookup.query for lookup in first.lookups] == [f"The First fact is. {n}" for n in range(5)], (
        "in turn, each knowing more"
    )
    assert len(first.evidence) == 15
    assert first.evidence[0] == Evidence("result 0 for The First fact is. 0", url="http://0", kind="organic")
    assert found.facts[2].evidence == (), "nothing is looked up for irrelevant facts"
    assert found.counts == FactCounts(1, 1, 1, 0)
    assert [step.name for step in first.steps] == ["revise", "relevance", *["query"] * 5, "verdict"]
    assert "result 2 for The First fact is. 4" in first.steps[-1].prompt, "the verdict is asked with all evidence"
    assert found.usage.calls == len(found.steps) == 3 + 8 + 8 + 2
    assert found.usage.output_tokens > 0
    assert found.cost is None, "no price is known"
    record = json.loads(json.dumps(first.record()))
    assert record["lookups"][0]["evidence"][0] == {
        "kind": "organic",
        "url": "http://0",
        "text": "result 0 for The First fact is. 0",
    }


def test_a_judge_that_is_never_in_format_leaves_facts_unjudged_and_counted() -> None:
    found = rated(safe(), "Bad fact is. Good fact is.", {"Bad": "never"})
    assert [(each.label, each.reason) for each in found.facts] == [
        ("unjudged", "judge off format: no verdict in 2 replies, the last one answered: 'I cannot say.'"),
        ("supported", ""),
    ]
    assert found.facts[0].revised == "Bad fact is.", "without a block the fact stays"
    names = [step.name for step in found.facts[0].steps]
    assert names == ["revise"] * 2 + ["relevance"] + ["query"] * 5 + ["verdict"] * 2
    assert found.counts == FactCounts(1, 0, 0, 1)
    assert len(found.facts[0].evidence) == 15, "the evidence is kept"


def test_without_any_query_the_knowledge_is_empty_and_an_unsure_judge_means_relevant() -> None:
    seen: list[str] = []
    found = rated(safe(), "Odd fact is.", {"Odd": "no query"}, seen)
    assert found.facts[0].label == "supported"
    assert "KNOWLEDGE:\nN/A" in seen[-1]
    seen.clear()
    rated(safe(official=True), "Odd fact is.", {"Odd": "no query"}, seen)
    assert "KNOWLEDGE:\n\n" in seen[-1], "the published code says N/A only where it asks for queries"
    assert rated(safe(), "Odd fact is.", {"Odd": "unsure"}).facts[0].label == "supported"


def test_the_published_code_drops_facts_without_a_verdict_after_three_rounds_and_this_is_said() -> None:
    def script(prompt: str, config: GenerateConfig) -> str:
        return judge({"Bad": "never"})(prompt, config).replace("See [2]. ", "").replace("[1] ", "")

    found = asyncio.run(safe(official=True)("Who?", "Bad fact is. Good fact is.", scripted(script)))
    assert [each.label for each in found.facts] == ["supported"]
    assert [each.fact for each in found.dropped] == ["Bad fact is."]
    assert [step.name for step in found.dropped[0].steps].count("verdict") == 6, "two tries in each of three rounds"
    cited = rated(safe(official=True), "Good fact is.", {})
    assert (cited.facts, [each.label for each in cited.dropped]) == ((), ["unjudged"]), "a citation before the verdict"


def test_a_search_that_fails_leaves_the_fact_unjudged_with_the_reason() -> None:
    found = rated(safe(search=Found(fails=True)), "First fact is.", {})
    assert found.facts[0].label == "unjudged"
    assert found.facts[0].reason == "nothing could be looked up: the service did not answer"
    assert [step.name for step in found.facts[0].steps] == ["revise", "relevance", "query"], (
        "what was asked is still paid for"
    )
    with pytest.raises(ValueError, match="SAFE must have a search"):
        rated(SAFE(), "First fact is.", {})


@pytest.mark.parametrize("official", [False, True])
def test_a_search_that_is_down_gives_no_score_and_one_without_a_key_ends_the_run(
    official: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    down = LongFact(rater=safe(search=Found(fails=True)), official=official)
    score = scored(down, "First fact is. Second fact is.", {"Second": "irrelevant"})
    assert score.value is None
    assert "the service did not answer" in score.reason
    with pytest.raises(ValueError, match="KEY must be set"):
        scored(LongFact(rater=safe(search=Found(key=False)), official=official), "First fact is.", {})
    monkeypatch.delenv("SERPER_API_KEY", raising=False)
    asked: list[str] = []
    for rater, message in (
        (SAFE(), "must have a search"),
        (safe(search=Serper()), "SERPER_API_KEY"),
        (safe(search=Recorded(Serper(), str(tmp_path / "r"))), "SERPER_API_KEY"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(LongFact(rater=rater), scripted([], asked), judge=scripted([], asked), limit=1)
    assert not asked, "nothing is asked for nothing"
    down = LongFact(rater=safe(search=Recorded(Serper(), str(tmp_path / "r"), mode="replay")))
    down.check()


def test_sentences_that_cannot_be_split_are_counted() -> None:
    found = asyncio.run(safe()("Who?", "He is old.", scripted(lambda prompt, config: "")))
    assert (found.facts, found.unsplit) == ((), ("He is old.",))


def test_facts_are_judged_together_but_no_more_than_allowed() -> None:
    class Slow(hr.Symbolic):
        async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
            busy.append(1)
            most.append(len(busy))
            await asyncio.sleep(0.005)
            busy.pop()
            return []

    for concurrency in (1, 3):
        busy: list[int] = []
        most: list[int] = []
        text = " ".join(f"Fact number {word} is." for word in ("one", "two", "three", "four", "five", "six"))
        found = rated(safe(search=Slow(), concurrency=concurrency), text, {})
        assert len(found.facts) == 6
        assert max(most) == concurrency


def test_the_published_constants_and_prompts_are_fields() -> None:
    rater = SAFE()
    assert (rater.tries, rater.rate.queries, rater.rate.results) == (11, 5, 3)
    assert (rater.sampling.temperature, rater.sampling.max_tokens) == (0.1, 512)
    seen: list[str] = []
    assert hr.symbolic.loads(hr.symbolic.dumps(SAFE())) == SAFE()
    changed = hr.replace(safe(), {"rate": Rating(queries=1, verdict="Is it [STATEMENT]? [KNOWLEDGE]")})
    rated(changed, "First fact is.", {}, seen)
    assert "Is it The First fact is.? result 0" in seen[-1]


def test_a_judge_behind_a_service_is_asked_and_its_tokens_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    script = judge({})

    def answer(arrived: Arrived, number: int) -> Sent:
        prompt = arrived.body["messages"][0]["content"]
        return openai(script(prompt, GenerateConfig()), usage=(100, 10))

    monkeypatch.setenv("LOOP_API_KEY", "sk-none")
    service = Service(answer)
    try:
        lm = hr.lm.model("openai-api/loop/judge", base_url=service.url, cache=None, price=hr.lm.Price(1.0, 2.0))
        found = asyncio.run(safe()("Who?", "First fact is. Second fact is.", lm))
    finally:
        service.stop()
    assert [each.label for each in found.facts] == ["supported", "supported"]
    assert found.usage.calls == 18 == len(service.asked)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (1800, 180)
    assert found.cost == pytest.approx((1800 * 1.0 + 180 * 2.0) / 1e6)


# -- LongFact -----------------------------------------------------------------------------------------------------


def answered(text: str, outcome: Any = "answered") -> Answer:
    said = text.lower() if outcome == "answered" else None
    return Answer(said, outcome, 1.0, (Sample(said, outcome, text),), ())


def scored(evaluation: LongFact, text: str, labels: dict[str, str], outcome: Any = "answered") -> Any:
    return asyncio.run(evaluation.score(Question("Who is he?"), answered(text, outcome), scripted(judge(labels))))


def test_the_benchmark_is_drawn_as_published() -> None:
    questions = list(LongFact().load())
    assert len(questions) == 250
    with gzip.open(Path(os.environ["HEURETIC_DATA"]) / "longfact/longfact_objects.jsonl.gz", "rt") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    random.Random(1).shuffle(prompts)
    assert [question.text for question in questions] == [f"{prompt} {POSTAMBLE}" for prompt in prompts[:250]]
    assert len({question.id for question in questions}) == 250
    assert list(LongFact().load()) == questions, "begun anew each time"
    for part in ("objects", "concepts"):
        every = LongFact(part=part, benchmark=False, postamble="").load()
        assert every.count == 1140 == len({question.id for question in every})
        assert len({question.about["topic"] for question in every}) == 38


def test_an_answer_is_worth_f1_at_k_of_its_facts() -> None:
    evaluation = LongFact(k=4, rater=safe())
    score = scored(
        evaluation,
        "First fact is. Second fact is. Third fact is. Fourth fact is.",
        {"Second": "Not Supported", "Third": "irrelevant", "Fourth": "never"},
    )
    assert score.value == pytest.approx(f1_at_k(1, 1, 4))
    assert score.metrics == {
        "precision": 0.5, "recall": 0.25, "facts": 4, "supported_facts": 1, "not_supported_facts": 1, "irrelevant_facts": 1,
        "unjudged_facts": 1, "dropped_facts": 0, "unsplit_sentences": 0,
    }  # fmt: skip
    assert [fact["label"] for fact in score.details["facts"]] == [
        "supported",
        "not supported",
        "irrelevant",
        "unjudged",
    ]
    assert score.steps
    json.dumps(dict(score.details))


def test_dropped_facts_and_sentences_that_were_not_split_are_numbers() -> None:
    def script(prompt: str, config: GenerateConfig) -> str:
        said = judge({"Bad": "never"})(prompt, config).replace("See [2]. ", "").replace("[1] ", "")
        return "" if said.startswith("- Lost") else said

    text = answered("Bad fact is. Good fact is. Lost fact is.")
    for official, dropped in ((False, 0), (True, 1)):
        evaluation = LongFact(rater=safe(), official=official)
        metrics = asyncio.run(evaluation.score(Question("Who?"), text, scripted(script))).metrics
        assert metrics["facts"] == 2, "as num_claims of the published code"
        assert (metrics["dropped_facts"], metrics["unjudged_facts"]) == (dropped, 1 - dropped)
        assert metrics["unsplit_sentences"] == 1
        columns = {name: np.array([value]) for name, value in metrics.items()}
        assert {"dropped facts", "unsplit sentences"} <= set(
            evaluation.summary(Results(["a"], np.array([0.1]), ["answered"], metrics=columns))
        )


def test_no_response_and_no_facts_count_zero_but_a_judge_that_never_says_gives_no_score() -> None:
    evaluation = LongFact(rater=safe())
    for text, outcome in (("", "empty"), ("  ", "refused"), ("Please ask something else.", "answered")):
        assert scored(evaluation, text, {}, outcome).value == 0.0
    cut = scored(evaluation, "First fact is. Second fa", {}, "truncated")
    assert cut.metrics["supported_facts"] == 2, "what was said before it was cut off counts"
    silent = scored(evaluation, "Bad fact is.", {"Bad": "never"})
    assert silent.value is None
    assert "1 unjudged" in silent.reason
    assert scored(LongFact(rater=safe(), official=True), "Bad fact is.", {"Bad": "never"}).value == 0.0
    with pytest.raises(ValueError, match="must have a judge"):
        asyncio.run(evaluation.score(Question("Who?"), answered("He is.")))
    assert EVALUATIONS.at("longfact?official=true") == LongFact(official=True)
    with pytest.raises(ValueError, match=r"longfact\?official=true"):
        LongFact(rater=safe(official=True))


@pytest.mark.parametrize("official", [False, True])
def test_an_answer_in_which_the_splitter_sees_no_facts_counts_zero_and_one_it_was_never_asked_about_has_no_score(
    official: bool,
) -> None:
    evaluation, question = LongFact(rater=safe(), official=official), Question("Who is he?")
    refusal = answered("I'm sorry, I cannot help with that.")
    nothing = scripted(lambda prompt, config: "There are no facts in this sentence.")
    assert asyncio.run(evaluation.score(question, refusal, nothing)).value == 0.0
    lost = asyncio.run(evaluation.score(question, refusal, scripted(lambda prompt, config: "")))
    assert lost.value is None


def test_the_whole_evaluation_runs_with_a_judge_and_counts_what_it_said(tmp_path: Path) -> None:
    def answers(prompt: str, config: GenerateConfig) -> str:
        assert prompt.endswith(POSTAMBLE)
        return "" if "Derrida" in prompt else "First fact is. Second fact is."

    run = evaluate(
        LongFact(k=4, rater=safe()),
        scripted(answers),
        judge=scripted(judge({"Second": "Not Supported"})),
        limit=3,
        logs=tmp_path,
    )
    assert next(iter(run.summary)) == "f1@4"
    assert list(run.results.values).count(0.0) == list(run.results.ids).count("philosophy/5")
    assert {name: count for name, count in run.outcomes.items() if name == "answered"}
    assert set(run.groups) == {"topic"}
    answered = run.results.values > 0
    assert run.results.values[answered] == pytest.approx(f1_at_k(1, 1, 4))
    assert run.judge_spent.replies == 18 * int(answered.sum())
    assert run.log is not None


def test_the_summary_has_k_of_the_answers_only_if_asked_for() -> None:
    columns = {
        "facts": np.array([4.0, 2.0, np.nan, 6.0]), "supported_facts": np.array([2.0, 2.0, np.nan, 6.0]),
        "not_supported_facts": np.array([2.0, 0.0, np.nan, 0.0]), "precision": np.array([0.5, 1.0, np.nan, 1.0]),
    }  # fmt: skip
    results = Results(list("abcd"), np.array([0.1, 0.2, 0.0, np.nan]), ["answered"] * 4, metrics=columns)
    fixed = LongFact(k=3).summary(results)
    assert next(iter(fixed)) == "f1@3"
    assert fixed["f1@3"].value == pytest.approx(0.1)
    assert LongFact(k="max").summary(results)["f1@4"].value == pytest.approx((f1_at_k(2, 2, 4) + f1_at_k(2, 0, 4)) / 3)
    assert LongFact(k="median").summary(results)["f1@2"].value == pytest.approx((f1_at_k(2, 2, 2) + 1) / 3)
    with pytest.raises(ValueError, match="k must be"):
        LongFact(k=0)


def test_prompts_of_a_broken_file_are_refused_with_their_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "longfact"
    folder.mkdir()
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"longfact/longfact_objects\.jsonl\.gz"):
        LongFact().load()
    path = folder / "longfact_objects.jsonl.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="must be JSON lines"):
        LongFact().load()
    good = json.dumps({"topic": "t", "prompt": "Who?"})
    for bad in ("{", json.dumps({"topic": "t", "question": "Who?"}), json.dumps({"topic": 3, "prompt": "Who?"}), "[]"):
        path.write_bytes(gzip.compress(f"{good}\n{bad}\n".encode()))
        with pytest.raises(ValueError, match="row 1"):
            LongFact().load()
        kept = LongFact(corrupt="skip").load()
        assert [question.id for question in kept] == ["t/0"]
        assert any("row 1" in note for note in kept.notes)
        assert any("others" in note for note in kept.notes), "another benchmark"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match="at least one prompt"):
        LongFact().load()


# -- generating prompts -------------------------------------------------------------------------------------------


def test_prompts_are_generated_shown_as_examples_and_written(tmp_path: Path) -> None:
    replies = ["[What is\n a leaf?]", "No brackets", "[what is a leaf]", "[]", "Sure: [What is a root?] [Second]"]
    asked: list[str] = []
    generator = PromptGenerator(shown=2)
    found = asyncio.run(generator("trees", 2, scripted(replies, asked)))
    assert found.prompts == ("What is a leaf?", "What is a root?")
    assert (found.off_format, found.duplicates) == (2, 1)
    assert "DO NOT ASK ABOUT A CONCEPT" in asked[0]
    assert "within the topic of TREES." in asked[0]
    assert asked[0].endswith("TOPIC:\nTREES\n\nQUESTION:")
    assert "[What is a leaf?]" in asked[1]
    assert asked[1].count("TOPIC:") == 3
    path = tmp_path / "prompts.jsonl"
    assert write(path, [found]) == 2
    own = LongFact(file=str(path), postamble="").load()
    assert [(q.text, q.about["topic"]) for q in own] == [("What is a leaf?", "trees"), ("What is a root?", "trees")]


def test_generating_ends_and_repeats() -> None:
    found = asyncio.run(PromptGenerator(part="concepts")("trees", 2, scripted(lambda prompt, config: "[Same?]")))
    assert (found.prompts, found.duplicates, len(found.steps)) == (("Same?",), 7, 8)

    def script(prompt: str, config: GenerateConfig) -> str:
        assert config.seed is not None
        return f"[{random.Random(config.seed).random()} {len(prompt)}?]"

    first, second = (asyncio.run(generate(["a", "b", "a"], 3, scripted(script))) for _ in range(2))
    assert [each.prompts for each in first] == [each.prompts for each in second]
    assert [each.topic for each in first] == ["a", "b"]
    other = hr.replace(PromptGenerator(), {"sampling": Sampling(temperature=1.0, max_tokens=128, seed=1)})
    assert asyncio.run(generate(["a"], 3, scripted(script), other))[0].prompts != first[0].prompts
    assert read_prompt("[  ]") is None
    with pytest.raises(ValueError, match="count must be"):
        asyncio.run(PromptGenerator()("a", 0, scripted([])))

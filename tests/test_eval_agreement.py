"""Agreement of raters of facts with people's labels."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai.model import GenerateConfig

import heuretic as hr
from heuretic.evals.safe import SAFE
from heuretic.evals.safe.agreement import (
    SAID,
    Judged,
    Judgement,
    agreement,
    at_crossed_thresholds,
    auc,
    best_threshold,
    crossed,
    difference,
    rate,
)
from heuretic.evals.safe.consistency import FEATURES, Consistency, declines, features, fit, fitted, loads
from heuretic.evals.safe.human_labels import WRITERS, Context, HumanFact, HumanLabels, human_labels
from heuretic.evals.safe.raters import (
    WITHOUT_EVIDENCE,
    Asked,
    BySAFE,
    FactPrompt,
    Likelihood,
    always_supported,
    at_base_rate,
    base_rate,
    by_length,
    read_truth,
)
from heuretic.evals.safe.rating import Label
from heuretic.ideas import safe as idea
from heuretic.lm import LanguageModel, ModelError, Reply, Usage
from heuretic.lm.retrieval import Evidence
from scripted import scripted

S, N, IR, U = SAID


def made(labels: str, persons: str = "", writers: str = "") -> list[HumanFact]:
    """Return facts with labels S, N and I, of persons and writers named by letters."""
    names: dict[str, Label] = {"S": S, "N": N, "I": IR}
    return [
        HumanFact(f"fact {k}", (persons or labels)[k], names[label], Context(writer=(writers or "A" * len(labels))[k]))
        for k, label in enumerate(labels)
    ]


@lru_cache(maxsize=1)
def real() -> HumanLabels:
    return human_labels()


# -- labels -------------------------------------------------------------------------------------------------------


def test_the_real_labels_are_read_with_their_biographies() -> None:
    labels = real()
    assert Counter(each.label for each in labels.facts) == {S: 5866, N: 2561, IR: 966}
    assert len(labels.topics) == 110
    assert labels.unlabelled == {"ChatGPT": 17, "InstructGPT": 2, "PerplexityAI": 16}
    first = labels.facts[0]
    assert (first.fact, first.topic, first.label) == ("Lanny Flaherty is an American.", "Lanny Flaherty", S)
    assert first.context.writer == "ChatGPT"
    assert set(first.context.others) == {"InstructGPT", "PerplexityAI"}
    assert first.context.sentence in first.context.response
    assert len(labels.checksum) == 64


def record(topic: str = "A", **changes: Any) -> dict[str, Any]:
    facts = [{"text": f"{topic} is old.", "label": "S"}, {"text": f"{topic} is 9.", "label": "NS"}]
    annotation = {"text": "It is so.", "is-relevant": True, "human-atomic-facts": facts}
    return {
        "topic": topic,
        "input": "Who?",
        "output": f"{topic} is old and 9.",
        "cat": ["rare"],
        "annotations": [annotation],
    } | changes


def files(folder: Path, *rows: Any) -> Path:
    for writer in WRITERS:
        lines = [
            row if isinstance(row, str) else json.dumps(row) for row in (rows if writer == "ChatGPT" else rows[:1])
        ]
        (folder / f"{writer}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def test_nulls_are_facts_that_are_not_there(tmp_path: Path) -> None:
    nothing = {"text": "Hm.", "human-atomic-facts": None}
    labels = human_labels(
        files(tmp_path, record(), record("B", annotations=None), record("C", annotations=[nothing, {"text": "x"}]))
    )
    assert [each.topic for each in labels.facts] == ["A"] * 6
    assert labels.unlabelled == {"ChatGPT": 2, "InstructGPT": 0, "PerplexityAI": 0}


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("{", "must be JSON"),
        ("[]", "must be an object"),
        (record(), "topic must be new"),
        ({"topic": "B", "annotations": []}, "texts as topic and output"),
        (record(" "), "texts as topic and output"),
        ({key: value for key, value in record("B").items() if key != "annotations"}, "annotations must be a list or null"),
        (record("B", annotations={"a": 1}), "annotations must be a list or null"),
        (record("B", annotations=[{"human-atomic-facts": []}]), "each annotation must have a text"),
        (record("B", annotations=[{"text": "x", "human-atomic-facts": "none"}]), "must be a list or null"),
        (record("B", annotations=[{"text": "x", "human-atomic-facts": [{"text": "y", "label": "True"}]}]), "labels S, NS, IR"),
        (record("B", annotations=[{"text": "x", "human-atomic-facts": [{"label": "S"}]}]), "labels S, NS, IR"),
    ],
)  # fmt: skip
def test_records_that_cannot_be_read_are_refused_or_left_out(bad: Any, rule: str, tmp_path: Path) -> None:
    folder = files(tmp_path, record(), bad)
    with pytest.raises(ValueError, match=rf"{rule}.*ChatGPT\.jsonl\.gz, row 1"):
        human_labels(folder)
    labels = human_labels(folder, corrupt="skip")
    assert {each.topic for each in labels.facts} == {"A"}
    assert len(labels.notes) == 1


def test_files_that_are_not_there_or_not_gzipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"ChatGPT\.jsonl\.gz"):
        human_labels(tmp_path)
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="factscore_labels"):
        human_labels()
    (tmp_path / "factscore_labels").mkdir()  # as it is published, not gzipped
    for writer in WRITERS:
        (tmp_path / "factscore_labels" / f"{writer}.jsonl").write_text(json.dumps(record()) + "\n")
    assert {each.topic for each in human_labels().facts} == {"A"}
    files(tmp_path, record())
    (tmp_path / "InstructGPT.jsonl.gz").write_bytes(gzip.compress(b"x" * 9999)[:30])
    with pytest.raises(ValueError, match=r"InstructGPT\.jsonl\.gz must be JSON lines"):
        human_labels(tmp_path)
    with pytest.raises(ValueError, match="at least one fact"):
        human_labels(files(tmp_path, record(annotations=None)))


# -- agreement ----------------------------------------------------------------------------------------------------


def test_agreement_by_hand() -> None:
    facts = made("SSSSNNNI", "abcdabcd", "XXXXYYYY")
    found = agreement(facts, [S, S, S, N, N, S, U, IR])
    assert found.raw.value == pytest.approx(5 / 8)
    assert found.binary.value == pytest.approx(4 / 7), "an unjudged fact agrees with neither"
    assert found.balanced_accuracy.value == pytest.approx((3 / 4 + 1 / 3) / 2)
    chance = (4 / 7) * (4 / 7) + (3 / 7) * (2 / 7)
    assert found.kappa.value == pytest.approx((4 / 7 - chance) / (1 - chance))
    assert found.unjudged == 1
    assert found.table[N] == {S: 1, N: 1, IR: 0, U: 1}
    scores = found.labels[S]
    assert (scores.precision, scores.recall, scores.f1, scores.facts) == (3 / 4, 3 / 4, 3 / 4, 4)
    assert found.labels[IR].f1 == 1.0
    assert found.by_writer["X"].binary.value == 3 / 4
    assert found.by_writer["Y"].facts == 4
    for estimate in (found.raw, found.binary, found.kappa):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high
    assert "1 of 8 facts unjudged" in str(found)


def test_an_irrelevant_of_the_rater_is_not_supported_where_people_say_one_of_the_two() -> None:
    found = agreement(made("SSNN", "abcd"), [S, IR, IR, N])
    assert found.balanced_accuracy.value == pytest.approx(0.75)
    assert found.raw.value == pytest.approx(0.5)
    assert found.labels[IR].recall is None
    assert found.labels[IR].precision == 0.0


@pytest.mark.parametrize(
    ("labels", "kappa"), [((S, S, N, N), 1.0), ((N, N, S, S), -1.0), ((S, S, S, S), 0.0), ((U, U, U, U), 0.0)]
)
def test_kappa_at_its_ends(labels: Sequence[Label], kappa: float) -> None:
    assert agreement(made("SSNN", "abcd"), labels).kappa.value == pytest.approx(kappa)


def test_facts_of_one_label_have_no_balanced_accuracy() -> None:
    found = agreement(made("SSS", "abc"), [S, S, S])
    assert np.isnan(found.balanced_accuracy.value)
    assert found.balanced_accuracy.low is None
    assert found.kappa.value == 0.0


def test_numbers_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    facts = [each for each in real().facts if each.label != IR]
    rng = np.random.default_rng(3)
    said = np.where(rng.random(len(facts)) < 0.6, S, N)
    human = [each.label for each in facts]
    found = agreement(facts, said.tolist())
    assert found.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(human, said))
    assert found.kappa.value == pytest.approx(metrics.cohen_kappa_score(human, said))
    scores = np.round(rng.random(len(facts)), 2)
    right = np.array([label == S for label in human], float)
    assert auc(scores, right) == pytest.approx(metrics.roc_auc_score(right, scores))


def test_intervals_are_over_persons_and_not_over_facts() -> None:
    rng = np.random.default_rng(0)
    labels = "".join("SN"[k] for k in rng.integers(0, 2, 200))
    said: list[Label] = [S if (label == "S") == (k < 100) else N for k, label in enumerate(labels)]
    many = agreement(made(labels, "".join(chr(200 + k) for k in range(200))), said).binary
    few = agreement(made(labels, "a" * 100 + "b" * 100), said).binary
    assert many.value == few.value == 0.5
    assert many.low is not None
    assert (few.low, few.high) == (0.0, 1.0), "one person is right, the other wrong"
    assert many.low > 0.4


def test_differences_are_paired_by_person() -> None:
    facts = made("SNSNSNSN", "aabbccdd")
    right: list[Label] = [S, N] * 4
    same = difference(facts, right, right)
    assert (same["kappa"].value, same["kappa"].low, same["kappa"].high) == (0.0, 0.0, 0.0)
    always: list[Label] = [S, S] * 4
    better = difference(facts, right, always)
    assert better["balanced_accuracy"].value == better["balanced_accuracy"].low == 0.5


@pytest.mark.parametrize(
    ("facts", "labels", "rule"),
    [("", [], "one for each"), ("SN", [S], "one for each"), ("S", ["yes"], "labels must be of")],
)
def test_labels_that_do_not_fit_are_refused(facts: str, labels: list[Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        agreement(made(facts), labels)


def test_raters_may_say_labels_probabilities_or_nothing() -> None:
    said: dict[str, Any] = {
        "fact 0": S, "fact 1": 0.4, "fact 2": np.float32(0.5), "fact 3": None, "fact 4": 1.5, "fact 5": float("nan"), "fact 6": "maybe",
        "fact 7": Judgement(0.9, Usage(10, 0, 2, 1), 0.5), "fact 8": Judgement(IR, Usage(5, 0, 1, 1), 0.25),
    }  # fmt: skip

    async def rater(fact: str, topic: str, context: Context) -> Any:
        return said[fact]

    judged = asyncio.run(rate(rater, made("S" * 9, "abcdefghi")))
    assert judged.labels == (S, N, S, U, U, U, U, S, IR)
    assert judged.usage == Usage(15, 0, 3, 2)
    assert judged.cost == 0.75
    assert judged.at(0.95).labels == (S, N, N, U, U, U, U, N, IR)


def test_no_more_facts_are_with_a_rater_at_once_than_allowed() -> None:
    busy, most = [0], [0]

    async def rater(fact: str, topic: str, context: Context) -> Label:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        await asyncio.sleep(0.001)
        busy[0] -= 1
        return S

    asyncio.run(rate(rater, made("S" * 30, "a" * 30), concurrency=4))
    assert most[0] == 4


# -- thresholds ---------------------------------------------------------------------------------------------------


def test_the_best_threshold_is_found_like_a_naive_search_finds_it() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        scores, right = np.round(rng.random(20), 1), (rng.random(20) < 0.6).astype(float)
        right[:2] = (0, 1)

        def balanced(threshold: float, scores: Any = scores, right: Any = right) -> float:
            said = scores >= threshold
            return (said[right == 1].mean() + (~said[right == 0]).mean()) / 2

        best = max(balanced(t) for t in (*scores, 2.0))
        assert balanced(best_threshold(scores, right)) == pytest.approx(best)


def test_a_threshold_is_never_chosen_with_the_persons_it_is_measured_on() -> None:
    facts = made("SN" * 20, "".join(chr(97 + k // 2) for k in range(40)))
    halves = crossed(facts, seed=4)
    assert sorted(halves[0] + halves[1]) == list(range(40))
    assert not {facts[k].topic for k in halves[0]} & {facts[k].topic for k in halves[1]}
    scores = np.zeros(40)
    for half, (high, low) in zip(halves, ((0.9, 0.8), (0.2, 0.1)), strict=True):
        for k in half:
            scores[k] = high if facts[k].label == S else low
    labels = at_crossed_thresholds(Judged((U,) * 40, scores), facts, seed=4).labels
    assert {labels[k] for k in halves[0]} == {S}, "the other half's threshold is 0.15"
    assert {labels[k] for k in halves[1]} == {N}, "the other half's threshold is 0.85"
    with pytest.raises(ValueError, match="2 persons"):
        crossed(made("SN", "aa"))


def test_auc_at_its_ends() -> None:
    right = np.array([1.0, 1.0, 0.0])
    assert auc(np.array([0.9, 0.8, 0.1]), right) == 1.0
    assert auc(np.array([0.1, 0.1, 0.9]), right) == 0.0
    assert auc(np.array([0.5, 0.5, 0.5]), right) == 0.5
    assert auc(np.array([0.9, np.nan, 0.1]), right) == 1.0
    assert np.isnan(auc(np.array([0.5, 0.5]), np.ones(2)))


# -- the cheap rater ----------------------------------------------------------------------------------------------

OTHERS = {
    "InstructGPT": "Ann Lee was a Welsh painter born in 1931. She studied at the Slade School in London and won the Turner Prize.",
    "PerplexityAI": "Ann Lee (born 1931) is a painter from Wales[1]. The Slade School in London taught her[2].",
}


def known(fact: str, others: dict[str, str] | None = None, **more: str) -> dict[str, float]:
    context = Context(
        more.get("sentence", fact), more.get("response", fact), "", "ChatGPT", OTHERS if others is None else others
    )
    return dict(zip(FEATURES, features(fact, "Ann Lee (painter)", context, lambda word: 1.0), strict=True))


def test_features_say_how_far_others_say_the_same() -> None:
    held = known("Ann Lee studied at the Slade School.")
    assert held["covered_most"] == 1.0
    assert held["covered_mean"] == pytest.approx((1 + 2 / 3) / 2), "studied, slade, school; the name does not count"
    assert held["pairs_most"] > known("School the Slade at studied Ann Lee.")["pairs_most"]
    assert (held["texts"], held["has_name"], held["names_most"]) == (1.0, 1.0, 1.0)
    made_up = known("Ann Lee directed the opera Carmen.")
    assert (made_up["covered_most"], made_up["names_most"]) == (0.0, 0.0)
    right, wrong = known("She was born in 1931."), known("She was born in 1947.")
    assert (right["numbers_most"], right["other_number"]) == (1.0, 0.0)
    assert (wrong["numbers_most"], wrong["other_number"]) == (0.0, 1.0)
    assert right["birth_or_death"] == right["about_topic"] == 1.0


def test_features_without_others_and_of_odd_facts() -> None:
    alone = known("She painted.", {})
    assert (alone["texts"], alone["covered_most"], alone["others_agree"]) == (0.0, 0.0, 0.0)
    silent = known(
        "She painted.", {"X": "I'm sorry, but I cannot find any information on Ann Lee, try another one.", "Y": ""}
    )
    assert (silent["texts"], silent["others_decline"]) == (0.0, 1.0)
    for odd in ("", "?", "the of", "Ann Lee", "1931", "日本の画家"):
        assert np.isfinite(list(known(odd, sentence="", response="").values())).all()
    assert declines("") is True
    assert declines(OTHERS["InstructGPT"]) is False


def test_the_rater_is_fitted_to_some_persons_and_agrees_with_people_on_others() -> None:
    facts = real().facts
    here = set(real().topics[::2])
    seen, new = [f for f in facts if f.topic in here], [f for f in facts if f.topic not in here]
    assert len(new) > 3000
    rater = fit(seen)
    judged = asyncio.run(rate(rater, new))
    found = agreement(new, judged.labels)
    assert found.balanced_accuracy.low is not None
    assert found.balanced_accuracy.low > 0.68
    assert found.kappa.value > 0.38
    assert (found.unjudged, judged.cost) == (0, 0.0)
    gap = difference(new, judged.labels, asyncio.run(rate(at_base_rate(0.7), new)).labels)
    assert gap["balanced_accuracy"].low is not None
    assert gap["balanced_accuracy"].low > 0.15
    again = loads(rater.dumps())
    few = new[:50]
    assert asyncio.run(rate(again, few)).scores == pytest.approx(asyncio.run(rate(rater, few)).scores, abs=1e-3)


@pytest.mark.parametrize("blind", [False, True])
def test_the_committed_rater_has_small_coefficients_and_runs_on_anything(blind: bool) -> None:
    rater = fitted(blind=blind)
    assert len(rater.coefficients) == len(FEATURES) + (0 if blind else 3)
    assert max(map(abs, rater.coefficients)) < 1.5
    context = Context(others=OTHERS, writer="somebody new")
    good, bad = (
        asyncio.run(rater(fact, "Ann Lee", context))
        for fact in ("She studied at the Slade School.", "She directed Carmen in 1947.")
    )
    assert 0 <= bad < good <= 1
    blinded = Context(others=OTHERS, writer="ChatGPT")
    assert (
        asyncio.run(rater("She studied.", "Ann Lee", blinded)) == asyncio.run(rater("She studied.", "Ann Lee", context))
    ) is blind


def test_the_committed_rater_is_the_one_that_fitting_gives() -> None:
    ours, again = fitted(), fit(real().facts)
    assert again.coefficients == pytest.approx(ours.coefficients, abs=2e-3)
    assert dict(again.common) == dict(ours.common)


def test_a_rater_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="supported and not supported"):
        fit(made("SSS"))
    held = json.loads(fitted().dumps())
    with pytest.raises(ValueError, match="got none of rare"):
        loads(json.dumps({key: value for key, value in held.items() if key != "rare"}))
    with pytest.raises(ValueError, match="coefficients, means and scales"):
        loads(json.dumps(held | {"coefficients": [1.0]}))
    assert isinstance(fitted(), Consistency)


# -- other raters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("True", S), ("False.", N), ("The statement is true.", S), ("**False**", N), ("Yes, it is.", S), ("No.", N), ("Not supported", N),
        ("It is incorrect", N), ("I do not know", None), ("", None), ("Truest", None), ("untrue", N),
        ("That is not true.", N), ("The statement is not correct.", N), ("It isn't entirely true", N), ("It is not false.", S),
        ("I cannot confirm whether it is true or false.", None), ("True or false? False.", N), ("True/False: True", S),
        ("I can't verify that it is true.", None), ("I wonder if it is true. No.", N), ("It is not supported.", N),
    ],
)  # fmt: skip
def test_truth_is_read_from_the_first_word_that_says_it(text: str, label: Label | None) -> None:
    assert read_truth(text) == label


def test_a_model_is_asked_with_evidence_or_without() -> None:
    asked: list[str] = []
    lm = scripted(lambda prompt, config: "False" if "1947" in prompt else "Hm", asked)
    fact = HumanFact("Born in 1947 [TOPIC].", "Ann Lee", N, Context(others=OTHERS | {"Z": "I'm sorry, " + "x" * 50}))
    other = HumanFact("A painter.", "Ann Lee", S, Context(others=OTHERS))
    judged = asyncio.run(rate(Asked(lm), [fact, other]))
    assert judged.labels == (N, U), "what cannot be read is counted as unjudged"
    assert "Welsh painter" in asked[0]
    assert "sorry" not in asked[0]
    assert "Statement about Ann Lee: Born in 1947 [TOPIC]." in asked[0], "facts are not taken for slots"
    assert judged.usage.output_tokens == 2
    asyncio.run(rate(Asked(lm, WITHOUT_EVIDENCE), [fact]))
    assert "Welsh" not in asked[-1]
    assert "painter" not in FactPrompt(characters=20)("x", "y", fact.context)
    with pytest.raises(ModelError, match=r"must give log-probabilities of prompts.* local weights"):
        asyncio.run(Likelihood(lm)("x", "y", Context()))


def test_a_local_model_says_how_likely_true_is() -> None:
    class Likely(LanguageModel):
        prompts: list[str] = []

        async def score(self, prompt: str, continuations: Sequence[str]) -> list[Reply]:
            self.prompts.append(prompt)
            assert tuple(continuations) == (" True", " False")
            used = (Usage(len(prompt.split()), calls=1), Usage(1))
            chances = (-1.0, -1.0 - np.log(3))
            return [
                Reply(t, usage=u, logprob=c, scored=1) for t, u, c in zip(continuations, used, chances, strict=True)
            ]

    lm = object.__new__(Likely)
    said = asyncio.run(Likelihood(lm, WITHOUT_EVIDENCE)("A fact.", "Ann Lee", Context(others=OTHERS)))
    assert said.said == pytest.approx(0.75)
    assert lm.prompts[0].endswith("Is the statement true or false?\nAnswer:")
    assert said.usage == Usage(len(lm.prompts[0].split()) + 1, calls=1)


def test_safe_itself_is_a_rater() -> None:
    class Nothing(hr.Symbolic):
        async def __call__(self, query: str, k: int) -> Sequence[Evidence]:
            return [Evidence("Wales has painters.")]

    def script(prompt: str, config: GenerateConfig) -> str:
        if "issue ONE Google Search query" in prompt or prompt.startswith("Vague references"):
            return "```\nAnn Lee painted.\n```"
        assert "Question:" not in prompt.partition("Your Task:")[2]
        return "[Foo]" if "Foo" in prompt else "[Not Supported]"

    fact = HumanFact(
        "She painted.", "Ann Lee", S, Context("She painted.", "She painted.", "Question: Tell me a bio of Ann Lee.")
    )
    judged = asyncio.run(rate(BySAFE(SAFE(search=Nothing()), scripted(script)), [fact]))
    assert judged.labels == (N,)
    assert judged.usage.calls == 8


def test_baselines() -> None:
    facts = real().facts[:2000]
    assert set(asyncio.run(rate(always_supported, facts)).labels) == {S}
    share = base_rate([each.label for each in facts])
    first, again, other = (asyncio.run(rate(at_base_rate(share, seed), facts)).labels for seed in (1, 1, 2))
    assert first == again != other
    assert first.count(S) / len(first) == pytest.approx(share, abs=0.04)
    assert asyncio.run(by_length("One two.", "", Context())) > asyncio.run(by_length("One two three.", "", Context()))
    with pytest.raises(ValueError, match="supported or not supported"):
        base_rate([IR])


# -- the check of the claim ---------------------------------------------------------------------------------------


def test_the_smoke_check_runs_and_repeats_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first, again = idea.reproduce("smoke", progress=said.append), idea.reproduce("smoke", seeds=(1, 2))
    assert first.verdict == "not testable at this scale"
    assert {name: arm.measurements for name, arm in first.arms.items()} == {
        n: a.measurements for n, a in again.arms.items()
    }
    assert len(said) == len(first.arms) == 5
    assert set(first.data) == {"factscore_labels"}
    assert first.arms["always supported"].measurements["balanced_accuracy"] == (0.5, 0.5)
    cheap = first.arms["consistency"].measurements["balanced_accuracy"]
    assert min(cheap) > 0.55
    json.dumps(first.record(), allow_nan=False)
    monkeypatch.setenv("HEURETIC_DATA", "/nowhere")
    with pytest.raises(FileNotFoundError):
        idea.reproduce("smoke")
    with pytest.raises(ValueError, match="scale must be one of"):
        idea.reproduce("huge")  # pyright: ignore[reportArgumentType]

"""BIG-Bench Extra Hard: the published rules with their quirks, the tolerant ones, the means, and the files."""

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from heuretic.evals import Results
from heuretic.evals.bbeh import BBEH, SUFFIX, TASKS, adjusted_harmonic_mean, correct, extract, matches
from heuretic.evals.running import evaluate
from heuretic.evals.short_answers import boxed, canonical, same_answer, short_answer
from heuretic.ideas import bbeh as idea
from heuretic.ideas import reasoning
from heuretic.ideas.idea import Scale
from heuretic.ideas.result import Reproduction
from heuretic.lm import Question
from heuretic.lm.strategies import Direct, SelfConsistency
from heuretic.symbolic import replace
from scripted import scripted

# --- Extraction as published


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ok The final answer is: \\boxed{4}.", "4"),
        ("Alright! The final answer is: 2, 3, 4", "2,3,4"),
        ("Ok The answer is: **25**\nHere's why.", "25"),
        ("The answer is: (A)", "(a)"),
        ("The answer is: yes.", "yes"),
        ("The answer is: yes..", "yes"),
        ("The answer is: 3. Done", "3. done"),  # what follows stays
        ("The answer is: a\nThe answer is: b", "b"),  # the last of each prefix
        ("The final answer is: a. The answer is: b", "b"),
        ("The answer is: b. The final answer is: a", "a"),  # looked for in the order of the prefixes
        ("The answer is The final answer is x", "x"),
        ("the answer is: b", "the answer is: b"),  # case-sensitive
        ("THE ANSWER IS: b", "the answer is: b"),
        ("First line\nThe answer was b", "first line"),  # no prefix: the first line
        ("  padded  ", "padded"),
        ("**The answer is:** B", " b"),  # the space stays
        ("The answer is: $4$", "4"),
        ("The answer is: $\\boxed{4}$", "4"),
        ("The answer is: \\boxed{4}. Done", "\\boxed{4}. done"),  # LaTeX only where it ends the text
        ("The answer is: \\boxed{\\text{yes}}", "yes"),
        ("The answer is: \\texttt{abc}", "abc"),
        ("The answer is: \\boxed{1} and \\boxed{2}", "1} and \\"),
        ("The answer is: $", ""),
        ("The answer is:", ""),
        ("", ""),
        ("The answer is: A,  B", "a, b"),  # two spaces leave one
        ("The answer is: x\r\ny", "x\r"),
    ],
)
def test_answers_are_extracted_as_published(text: str, found: str) -> None:
    assert extract(text, official=True) == found


# --- Matching as published


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("(a)", "a", True),
        ("a", "(A)", True),
        ("(b)", "a", False),
        ("(1)", "1.0", False),  # nothing is tried after the brackets
        ("1.0", "(1)", False),
        ("(1)", "1", True),
        ("(a)", "(A)", True),
        ("25", "25.0", True),
        ("1e3", "1000", True),
        ("1_000", "1000", True),
        ("1,000", "1000", False),
        ("inf", "Infinity", True),
        ("nan", "nan", True),
        ("nan", "NaN ", True),  # as texts
        ("nan", "-nan", False),
        ("it's", "its", True),
        ("its", "it's", True),
        ("[a,b]", "a, b", True),
        ("a,b", "[a, b]", True),
        ("", "[]", True),
        ("did we go?", "Did we go", True),
        ("did we go", "Did we go?", False),
        ("did we go??", "Did we go", False),
        (" b", "(B)", False),
        ("a,b", "A, B", True),
        ("bc", "(B)", False),
        ("", "", True),
    ],
)
def test_answers_are_matched_as_published(answer: str, reference: str, same: bool) -> None:
    assert matches(answer, reference, official=True) is same


def test_the_published_rules_are_kept_together() -> None:
    assert not correct("**The answer is:** B", "(B)", official=True)
    assert not correct("The answer is: \\boxed{4}. Done", "4", official=True)
    assert correct("The answer is: **(B)**", "(B)", official=True)
    assert correct("B", "(B)", official=True)
    assert correct("The answer is:", "[]", official=True)


# --- Tolerant


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("**The answer is:** B", "(B)"),
        ("The answer is: \\boxed{4}. Done", "4"),
        ("the final answer is (B) both of them", "(B)"),
        ("The Correct Answer Is: **B**", "(B)"),
        ("### Final answer\n\n(B)", "(B)"),
        ("Answer: B", "(B)"),
        ("So $\\boxed{\\text{(C)}}$", "(C)"),
        ("The answer is: Ｂ", "(B)"),
        ("The answer is: −7", "-7"),
        ("The answer is\u00a0:\u20097", "7"),
        ("The answer is: “Did we go?”", "Did we go?"),
        ("The answer is: shi'le", "shi’le"),
        ("The answer is: 1,234", "1234"),
        ("The answer is: 25%", "25"),
        ("The answer is: 25 days", "25"),
        ("The answer is: (1)", "1.0"),
        ("The answer is: (A), not (B)", "(A)"),
        ("The answer is: A. Because the others are wrong.", "(A)"),
        ("The answer is: (A), (B), (C)", "A, B, C"),
        ("The answer is: no, because he left", "No"),
        ("The answer is: no, unknown, no", "no, unknown, no"),
        ("The answer is: thursday", "[thursday]"),
        ("The answer is: []", "[]"),
        ("The answer is: sweet", "sweet (adj.)"),
        ("The answer is: He really cried. That is what it says.", "He really cried."),
        ("The answer is: Mr. Smith went home.", "mr. smith went home"),
        ("The answer is: 2. I hope the answer is clear? The answer is: 3", "3"),
        ("The answer is: 4.\n\nI hope this answer helps: it should.", "4"),
        ("<think>The answer is: 3</think>The answer is: 4", "4"),
        ("The answer is: same_day, 15:00:22", "same_day, 15:00:22"),
        ("B", "(B)"),
        ("The answer is $42$.", "42"),
        ("The answer is $42$, as required.", "42"),
        ("The answer is: 5\n\nNote: the answer is based on the table.", "5"),
        ("The answer is 5.\n\nTherefore, the answer is", "5"),
        ("The answer is: based on nothing", "based on nothing"),
        ("So the answer is 61 - 30 = 31.", "31"),
        ("The answer is option (B).", "(B)"),
        ("The answer is: Option B", "(B)"),
        ("The answer is:\n1. apple\n2. banana\n3. cherry\nas asked.", "apple, banana, cherry"),
        ("The answer is: apple; banana; red cherry", "apple, banana, red cherry"),
        ("The answer is: 5; the other is 6.", "5"),
        ("So $\\boxed{\\} ] )}$", "} ] )"),
        ("So $\\boxed{\\text{a}, \\text{b}}$", "a, b"),
        ("The answer is: 12 (apples)", "12"),
        ("So my answer would be **B**.", "(B)"),
    ],
)
def test_right_answers_are_found_however_they_are_written(text: str, target: str) -> None:
    assert correct(text, target)


def test_boxes_are_found_in_one_pass() -> None:
    assert boxed("\\boxed{1} and \\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert (
        boxed("\\boxed{f(x)=\\left\\{\\begin{cases} 1 \\end{cases}\\right.}")
        == "f(x)=\\left\\{\\begin{cases} 1 \\end{cases}\\right."
    )
    assert boxed("\\boxed{a} \\boxed{b") == "a"
    assert boxed("\\boxed{\\boxed{3}}") == "3"
    assert boxed("}{ \\boxed{2}") == "2"
    assert boxed("2") is boxed("\\boxed{2") is None
    assert boxed("\\boxed{" * 100_000) is None


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("The answer is: (A) or (B)", "(A)"),
        ("The answer is: A and B", "(A)"),
        ("The answer is: BC", "B"),
        ("The answer is: 4 million", "4"),
        ("The answer is: 25 or 26", "25"),
        ("The answer is: 2-3", "2"),
        ("The answer is:", "[]"),
        ("", "(A)"),
        ("<think>The answer is: B", "(B)"),  # cut off within its reasoning
        ("The answer is: not B", "(B)"),
        ("The answer is: a man", "(A)"),
        ("The answer is: 1, 2", "12"),
        ("The answer is: 0,1,1", "0,1,0"),
        ("The answer is: -7", "7"),
        ("The answer is: unknown", "no, unknown, no"),
        ("The answer is: (A) (B)", "(A)"),
        ("The answer is: 12 (or 13)", "12"),
        ("The answer is: 12 (incorrect)", "12"),
        ("The answer is: 12 millions", "12"),
        ("The answer is: 2 squared", "2"),
        ("So the answer is 61 - 30 = 31.", "61"),
    ],
)
def test_wrong_answers_stay_wrong(text: str, target: str) -> None:
    assert not correct(text, target)


def test_what_is_right_as_published_is_right_in_the_tolerant_way() -> None:
    rng = random.Random(0)
    pieces = [
        "(A)",
        "a",
        "4",
        "4.0",
        "1e3",
        "[",
        "]",
        "'",
        "?",
        ",",
        ", ",
        " ",
        "yes",
        "inf",
        "nan",
        "-",
        "(",
        ")",
        "é",
    ]
    right = 0
    for _ in range(20_000):
        reference = "".join(rng.choices(pieces, k=rng.randint(0, 3)))
        said = rng.choice([reference.lower(), f"[{reference}]", f"({reference})", reference + "?", reference[1:2], "4"])
        if said.strip() and matches(said, reference, official=True):
            right += 1
            assert matches(said, reference), (said, reference)
    assert right > 5_000


def test_canonical_answers_are_fixed_points_and_equality_is_mutual() -> None:
    rng = random.Random(1)
    pieces = [
        "A",
        "(B)",
        "1,234",
        "“x”",
        "İ",
        "ß",
        ".",
        "?",
        "!",
        ", ",
        "  ",
        "'",
        "−",
        "[",
        "]",
        "12",
        "%",
        "$",
        "(adj.)",
    ]
    for _ in range(5_000):
        one, other = ("".join(rng.choices(pieces, k=rng.randint(0, 4))) for _ in range(2))
        assert canonical(canonical(one)) == canonical(one), one
        assert same_answer(one, one)
        if one.strip() and same_answer(one, canonical(other)):
            assert same_answer(one, other), (one, other)


def test_boxes_are_read_with_the_braces_in_them() -> None:
    assert boxed("\\boxed{1} then \\boxed{\\frac{1}{2}}") == "\\frac{1}{2}"
    assert boxed("\\boxed{1} then \\boxed{2") == "1"
    assert boxed("none") is None
    assert short_answer("   ") is None


# --- Means


def test_the_harmonic_mean_keeps_its_one() -> None:
    assert adjusted_harmonic_mean([0.0] * 23) == pytest.approx(1.0)
    assert adjusted_harmonic_mean([100.0] * 23) == pytest.approx(101.0)
    assert adjusted_harmonic_mean([10.0, 40.0]) == pytest.approx(2 / (1 / 11 + 1 / 41))
    assert adjusted_harmonic_mean([0.1, 0.4], percent=False) == pytest.approx(2 / (1 / 11 + 1 / 41) / 100)
    assert adjusted_harmonic_mean(np.array([[0.0, 0.0], [100.0, 100.0]])).tolist() == pytest.approx([1.0, 101.0])


@pytest.mark.parametrize("accuracies", [[], [-1.0], [101.0], [float("nan")]])
def test_accuracies_out_of_range_are_refused(accuracies: list[float]) -> None:
    with pytest.raises(ValueError, match="accuracies must be"):
        adjusted_harmonic_mean(accuracies)
    with pytest.raises(ValueError, match="percent=False"):
        adjusted_harmonic_mean([2.0], percent=False)


def test_summaries_are_in_percent_and_resample_within_tasks() -> None:
    tasks = ["a"] * 4 + ["b"] * 2
    results = Results(
        [str(k) for k in range(6)], np.array([1.0, 0, 0, 0, 1, 1]), ["answered"] * 6, {"task": tasks},
        {"published rules": np.zeros(6)},
    )  # fmt: skip
    found = BBEH().summary(results)
    assert next(iter(found)) == "adjusted harmonic mean, %"
    harmonic, micro = found["adjusted harmonic mean, %"], found["micro average, %"]
    assert harmonic.value == pytest.approx(2 / (1 / 26 + 1 / 101))
    assert harmonic.low is not None
    assert harmonic.high is not None
    assert 2 / (1 / 1 + 1 / 101) <= harmonic.low + 1e-9 < harmonic.value < harmonic.high <= 101
    assert micro.value == pytest.approx(50.0)
    assert found["adjusted harmonic mean, %, by the published rules"].value == pytest.approx(1.0)
    assert list(BBEH(mini=True, official=True).summary(results)) == ["micro average, %"]


# --- Files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")
    (tmp_path / "data" / "bbeh").mkdir(parents=True)
    return tmp_path / "data" / "bbeh"


def written(folder: Path, records: list[object], name: str = "bbeh_all.jsonl.gz") -> None:
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.writelines((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)


def records(count: int = 3) -> Iterator[dict[str, str]]:
    for task in TASKS:
        for k in range(count):
            yield {"task": f"bbeh_{task}", "input": f"{task} {k}?\n(A) x\n(B) y", "target": "(A)" if k else "(B)"}


def test_questions_are_read_in_order_and_may_be_gone_through_again(folder: Path) -> None:
    rows = [*records(), next(records())]
    rows[1]["subtask"] = "kind"  # some tasks have this, which is not their name
    written(folder, list(rows))
    questions = BBEH().load()
    found = list(questions)
    assert questions.count == len(found) == 70
    assert [q.id for q in found[:4]] == ["boardgame_qa/0", "boardgame_qa/1", "boardgame_qa/2", "boolean_expressions/0"]
    assert found[1].about["task"] == "boardgame_qa"
    assert len({q.id for q in found}) == 70
    assert list(questions) == found
    assert "1 questions are there again, and kept, as published" in questions.notes
    assert len(questions.checksums["bbeh/bbeh_all.jsonl.gz"]) == 64
    once = BBEH(repeated="drop").load()
    assert once.count == len(list(once)) == 69


def test_the_mini_version_names_no_task(folder: Path) -> None:
    rows = [{"input": "a?", "target": "x"}, {"input": "b?", "target": "y", "subtask": "tree/cousin"}]
    written(folder, list(rows), "bbeh_mini.jsonl.gz")
    found = list(BBEH(mini=True).load())
    assert [(q.id, q.about["task"]) for q in found] == [("mini/0", "mini"), ("mini/1", "mini")]


def test_the_published_form_is_read_too(folder: Path) -> None:
    for task in TASKS:
        rows = [{"input": r["input"], "target": r["target"]} for r in records() if r["task"] == f"bbeh_{task}"]
        (folder / f"{task}.json").write_text(json.dumps({"examples": rows}))
    found = BBEH().load()
    assert found.count == 69
    one_by_one = list(found)
    for task in TASKS:
        (folder / f"{task}.json").unlink()
    written(folder, list(records()))
    assert list(BBEH().load()) == one_by_one


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ('{"task": "bbeh_nycc", "input": "x?"', r"JSON.*row 1"),
        ({"task": "bbeh_nycc", "question": "x?", "answer": "y"}, r"input, target.*row 1"),  # renamed columns
        ({"task": "bbeh_nycc", "input": "  ", "target": "y"}, r"input must be a text.*row 1"),
        ({"task": "bbeh_nyc", "input": "x?", "target": "y"}, r"23 of BBEH.*row 1"),
        (["a list"], r"row 1"),
    ],
)
def test_records_that_cannot_be_read_are_named_or_left_out(folder: Path, bad: object, said: str) -> None:
    first, second = list(records())[:2]
    written(folder, [first, bad, second])
    with pytest.raises(ValueError, match=said):
        BBEH().load()
    left = BBEH(corrupt="skip").load()
    assert left.count == len(list(left)) == 2
    assert "row 1, is left out" in " ".join(left.notes)


def test_missing_damaged_and_empty_files_are_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"bbeh/bbeh_all\.jsonl\.gz.*HEURETIC_OFFLINE"):
        BBEH().load()
    written(folder, list(records()))
    whole = (folder / "bbeh_all.jsonl.gz").read_bytes()
    (folder / "bbeh_all.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="gzipped"):
        BBEH().load()
    written(folder, [])
    with pytest.raises(ValueError, match="at least one question"):
        BBEH().load()
    (folder / "bbeh_mini.jsonl.gz").unlink(missing_ok=True)
    (folder / "mini.json").write_text('{"rows": []}')
    with pytest.raises(ValueError, match="JSON with examples"):
        BBEH(mini=True).load()


def test_a_cached_file_with_a_wrong_checksum_is_not_used(folder: Path, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "files" / "bbeh"
    cached.mkdir(parents=True)
    (cached / "mini.json").write_text('{"examples": [{"input": "a?", "target": "b"}]}')
    with pytest.raises(FileNotFoundError, match="HEURETIC_OFFLINE"):
        BBEH(mini=True).load()


# --- Chance


@pytest.mark.parametrize(
    ("task", "text", "target", "chance"),
    [
        ("boardgame_qa", "x?", "proved", 1 / 3),
        ("nycc", "Which?\n(A) a\n(B) b\n(C) c\n(D) d", "(A)", 1 / 4),
        ("sarc_triples", "x", "0,1,1", 1 / 8),
        ("web_of_lies", "yes, no, or unknown", "no, no, no", 1 / 27),
        ("web_of_lies", "yes or no", "no, no, no", 1 / 8),
        ("zebra_puzzles", "There are 7 people next to each other", "3", 1 / 7),
        ("linguini", "Translate (A) and\n(B)", "blind", 0.0),
        ("hyperbaton", "(A) x\n(B) y", "AB", 0.0),
    ],
)
def test_chance_is_counted_where_there_is_something_to_choose_from(
    task: str, text: str, target: str, chance: float
) -> None:
    assert BBEH().chance(Question(text, target, about={"task": task})) == pytest.approx(chance)


# --- Runs


def test_a_run_scores_both_ways(folder: Path) -> None:
    written(folder, list(records(2)))
    asked: list[str] = []
    run = evaluate(BBEH(), scripted(lambda prompt, _: "**The answer is:** A", asked))
    assert asked[0].endswith(SUFFIX)
    assert run.summary["micro average, %"].value == pytest.approx(50.0)
    assert run.summary["adjusted harmonic mean, %"].value == pytest.approx(51.0)
    assert run.summary["micro average, %, by the published rules"].value == 0.0
    assert evaluate(BBEH(official=True), scripted(lambda prompt, _: "**The answer is:** A")).score.value == 1.0
    assert len(run.groups["task"]) == 23


def test_reasoning_and_replies_that_were_cut_off_are_no_answers(folder: Path) -> None:
    written(folder, list(records(1)))
    run = evaluate(BBEH(), scripted(lambda prompt, _: "<think>The answer is: B"))
    assert run.summary["micro average, %"].value == 0.0
    assert run.summary["micro average, %, by the published rules"].value == 0.0
    thought = scripted(lambda prompt, _: "<think>The answer is: A</think>The answer is: (B)")
    assert evaluate(BBEH(), thought).summary["micro average, %"].value == 100.0


def test_votes_are_counted_over_spellings(folder: Path) -> None:
    written(folder, list(records(1)))
    said = ["The answer is: A", "The answer is: (B)", "**The answer is:** b"]
    model = scripted(lambda prompt, config: said[(config.seed or 0) % 3])
    how = BBEH().fitted(SelfConsistency(of=Direct(), samples=3))
    assert replace(how, {}) == how
    run = evaluate(BBEH(), model, strategy=how)
    assert run.summary["micro average, %"].value == 100.0


# --- The idea


def test_the_idea_compares_a_model_with_constant_answers_and_chance(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder, list(records(5)))

    def checked(reply: Callable[[str], str], scale: Scale) -> Reproduction:
        monkeypatch.setattr(reasoning, "chosen_model", lambda name=None: scripted(lambda prompt, _: reply(prompt)))
        return idea.reproduce(scale)

    solved = checked(lambda prompt: "The answer is: B" if " 0?" in prompt else "The answer is: A", "small")
    assert solved.verdict == "not reproduced"
    assert solved.estimate(idea.MODEL, idea.HARMONIC).mean == pytest.approx(101.0)
    weak = checked(lambda prompt: "The answer is: B", "small")
    assert weak.verdict == "not testable at this scale"
    assert "always giving the commonest right answer of each task has 0.800" in weak.reason
    constant = weak.estimate(idea.CONSTANT, "accuracy").mean
    assert constant == pytest.approx(1 - weak.estimate(idea.MODEL, "accuracy").mean)
    assert checked(lambda prompt: "The answer is: A", "smoke").verdict == "not testable at this scale"
    with pytest.raises(ValueError, match="scale must be one of"):
        checked(str, "huge")  # pyright: ignore[reportArgumentType]


def test_by_the_published_rules_an_empty_reply_is_an_empty_list(folder: Path) -> None:
    written(folder, [record | {"target": "[]" if k == 0 else "(A)"} for k, record in enumerate(records(1))])
    for official, right in ((True, 1), (False, 0)):
        run = evaluate(BBEH(official=official), scripted(lambda prompt, _: ""))
        assert run.results.values.sum() == right
        assert run.results.metrics["published rules"].sum() == 1

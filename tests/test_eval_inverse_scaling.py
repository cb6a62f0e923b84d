"""The Inverse Scaling Prize: its files, asking by likelihood or in words, scores, and questions in its style."""

import asyncio
import csv
import gzip
import json
import math
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heuretic.evals.evaluation import Score
from heuretic.evals.inverse_scaling import (
    OTHER_TASKS,
    TASKS,
    ClassLikelihoods,
    InverseScaling,
    NamedClass,
    class_loss,
    class_named,
    classes_of,
    logodds,
    questions_of,
    read_items,
    score_of,
)
from heuretic.evals.inverse_scaling_tasks import GENERATORS, Item, as_lines, generated
from heuretic.evals.results import Results
from heuretic.lm import Answer, LanguageModel, ModelError, Question, Reply, Sample
from heuretic.lm.answer import Step
from heuretic.lm.likelihood import Likelihood, likelihoods
from heuretic.lm.strategies import Direct, SelfConsistency
from heuretic.lm.strategies.likeliest import LIKELIHOODS
from heuretic.symbolic import dumps, loads
from scripted import scripted
from test_likelihood import local
from test_local_models import make_folder, text

GOOD: list[dict[str, Any]] = [
    {"prompt": "Q: 1? A:", "classes": [" 4", " 3"], "answer_index": 0},
    {"prompt": "Q: 2? A:", "classes": "[' Y', ' N']", "answer_index": "1"},
    {"prompt": "Q: 3? A:", "classes": '[" a", " b", " c"]', "answer_index": 2.0},
]


def write(path: Path, records: list[Any]) -> Path:
    lines = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, encoding="utf-8")
    return path


def write_csv(path: Path, records: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["", *records[0]])
        table.writeheader()
        table.writerows({"": k, **record} for k, record in enumerate(records))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return local(make_folder(tmp_path_factory.mktemp("model"), "llama"))


# ---- files ----


@pytest.mark.parametrize("name", ["neqa.jsonl", "neqa.jsonl.gz"])
def test_records_are_read_as_published(tmp_path: Path, name: str) -> None:
    items, notes = read_items(write(tmp_path / name, GOOD))
    assert [(i.prompt, i.classes, i.answer_index) for i in items] == [
        ("Q: 1? A:", (" 4", " 3"), 0),
        ("Q: 2? A:", (" Y", " N"), 1),
        ("Q: 3? A:", (" a", " b", " c"), 2),
    ]
    assert notes == []


def test_csv_with_an_index_column_and_line_breaks_is_read(tmp_path: Path) -> None:
    records = [{"prompt": 'one\n\n"two", three ', "classes": "[' Y', ' N']", "answer_index": 1}]
    [item], _ = read_items(write_csv(tmp_path / "x.csv", records))
    assert item.prompt == 'one\n\n"two", three '  # to the last space
    assert item.classes == (" Y", " N")


def test_all_forms_of_the_prize_are_known(tmp_path: Path) -> None:
    records = [
        {"prompt": "a", "completion": " owned"},
        {"prompt": "a", "other_prompt": "b", "classes": [" x", " y"], "answer_index": 1},
        {"prompt": "a", "other_prompt": "", "classes": [" x", " y"], "answer_index": 1},
        {"prompt": "a", "classes": [" x", " y"], "answer_index": 1, "round": 1},
    ]
    items, _ = read_items(write(tmp_path / "x.jsonl", records))
    assert [item.form for item in items] == ["sequence_prob", "logodds", "classification", "classification"]
    assert items[0].classes == (" owned",)
    assert items[1].other_prompt == "b"


def test_doubtful_records_are_noted(tmp_path: Path) -> None:
    bare = {"prompt": "p", "classes": ["x", " y"], "answer_index": 0}
    _, notes = read_items(write(tmp_path / "x.jsonl", [*GOOD, bare, bare]))
    assert notes == ["1 records repeat another", "2 records have a class without a leading space"]


BAD = [
    ("{broken", "record must be JSON"),
    ("[1]", "record must be an object"),
    ({"prompt": " ", "classes": [" a", " b"], "answer_index": 0}, "prompt must be a text"),
    ({"prompt": 3, "classes": [" a", " b"], "answer_index": 0}, "prompt must be a text"),
    ({"prompt": "p", "classes": [" a"], "answer_index": 0}, "classes must be a list"),
    ({"prompt": "p", "classes": [" a", " a"], "answer_index": 0}, "classes must be a list"),
    ({"prompt": "p", "classes": "[' a', ' b’]", "answer_index": 0}, "classes must be a list"),
    ({"prompt": "p", "classes": "__import__('os').getcwd()", "answer_index": 0}, "classes must be a list"),
    ({"prompt": "p", "classes": [" a", ""], "answer_index": 0}, "classes must be a list"),
    ({"prompt": "p", "classes": [" a", " b"], "answer_index": 2}, "answer_index must be 0 to 1"),
    ({"prompt": "p", "classes": [" a", " b"], "answer_index": -1}, "answer_index must be 0 to 1"),
    ({"prompt": "p", "classes": [" a", " b"], "answer_index": 0.5}, "answer_index must be 0 to 1"),
    ({"prompt": "p", "classes": [" a", " b"], "answer_index": True}, "answer_index must be 0 to 1"),
    ({"prompt": "p", "classes": [" a", " b"], "answer_index": None}, "answer_index must be 0 to 1"),
    ({"prompt": "p", "completion": ""}, "completion must be a text"),
    ({"prompt": "p", "kinds": [" a", " b"]}, "record must have prompt, classes and answer_index"),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_bad_records_are_refused_with_file_and_row_or_left_out(tmp_path: Path, bad: Any, said: str) -> None:
    path = write(tmp_path / "x.jsonl", [GOOD[0], bad, GOOD[1]])
    with pytest.raises(ValueError, match=f"{said}.*x.jsonl, row 1"):
        read_items(path)
    items, notes = read_items(path, "skip")
    assert len(items) == 2
    assert notes == ["1 records were left out"]


def test_renamed_columns_are_named_even_if_corrupt_records_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"prompt": "p", "options": [" a", " b"], "answer": 1}])
    with pytest.raises(ValueError, match=r"got prompt, options, answer at .*x.jsonl"):
        read_items(path, "skip")


def test_numeric_records_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"filled_template": "p", "true_answer": 1, "anchor": 2}])
    with pytest.raises(ValueError, match="numeric form"):
        read_items(path)


def test_identifiers_must_be_new(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{**GOOD[0], "id": "7"}, {**GOOD[1], "id": "7"}])
    with pytest.raises(ValueError, match=r"id must be new, got '7', which row 0 has too at .*row 1"):
        read_items(path)


def test_broken_quoting_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "prompt,classes,answer_index\nfine,\"[' a', ' b']\",0\n\"a\"b,\"[' a', ' b']\",0\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"row must be CSV with balanced quotes.*x.csv, row 1"):
        read_items(path)
    items, notes = read_items(path, "skip")
    assert (len(items), notes) == (1, ["1 records were left out"])


def test_csv_rows_with_too_many_fields_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,classes,answer_index\np,\"[' a', ' b']\",0,9\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"3 fields.*row 0"):
        read_items(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b""])
def test_files_that_are_no_text_or_empty_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.jsonl"):
        read_items(path)


def test_cut_off_archive_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl.gz", GOOD)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"x.jsonl.gz must be JSON lines"):
        read_items(path)


def test_classes_in_python_or_json() -> None:
    assert classes_of("[' A', \" it's\"]") == (" A", " it's")
    assert classes_of((" a", " b")) == (" a", " b")
    assert classes_of("[1, 2]") is None
    assert classes_of(None) is None
    assert classes_of("[" * 5000) is None


# ---- the evaluation ----


def test_published_files_are_found_by_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inverse_scaling"
    folder.mkdir()
    write(folder / "memo-trap.jsonl", GOOD)
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    found = InverseScaling(task="memo_trap").load()
    first, second = list(found), list(found)
    assert first == second
    assert found.count == 3
    assert len(found.checksums["memo-trap"]) == 64
    assert (first[1].text, first[1].choices, first[1].target) == ("Q: 2? A:", (" Y", " N"), "B")
    assert first[1].id == "memo-trap/1"
    with pytest.raises(FileNotFoundError, match="inverse_scaling/neqa"):
        InverseScaling(task="neqa").load()
    with pytest.raises(FileNotFoundError):
        InverseScaling(task="prize").load()


def test_own_file_is_read_from_a_path(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", GOOD)
    found = InverseScaling(file=str(path)).load()
    assert {q.about["task"] for q in found} == {"mine"}
    with pytest.raises(FileNotFoundError, match="not there"):
        InverseScaling(file=str(tmp_path / "none.jsonl")).load()


def test_unknown_tasks_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"task must be ours, prize or one of hindsight-neglect-10shot.*got 'nonsense'"
    ):
        InverseScaling(task="nonsense").load()


def test_there_are_eleven_tasks() -> None:
    assert len(TASKS) == len(set(TASKS)) == 11
    harness = {*TASKS, *OTHER_TASKS} - {"prompt-injection"}
    assert len(harness) == 11


def test_one_shot_shows_another_record_and_does_not_ask_it() -> None:
    items = [Item(f"Q: {k}? A:", (" Y", " N"), k % 2, id=str(k)) for k in range(20)]
    asked = questions_of("t", items, shots=1, seed=3)
    assert len(asked) == 19
    [left_out] = {item.id for item in items} - {q.id.removeprefix("t/") for q in asked}
    shown = items[int(left_out)]
    lead = f"{shown.prompt}{shown.classes[shown.answer_index]}\n\n"
    assert all(q.text.startswith(lead) for q in asked)
    assert asked[0].text == lead + f"Q: {asked[0].id.removeprefix('t/')}? A:"
    plain = {q.id: q for q in questions_of("t", items)}
    assert all(plain[q.id].target == q.target for q in asked)
    assert len({questions_of("t", items, 1, seed)[0].text for seed in range(20)}) > 5
    with pytest.raises(ValueError, match="at least 2"):
        questions_of("t", items[:1], 1)


def test_prompt_is_scored_as_it_is_without_a_delimiter(model: LanguageModel) -> None:
    question = questions_of("t", [Item(text(1, 2), (" w5", " w6 w7"), 1)])[0]
    answer = asyncio.run(InverseScaling().strategy()(question, model))
    expected = asyncio.run(likelihoods(model, text(1, 2), [" w5", " w6 w7"]))
    assert answer.trace[0].prompt == text(1, 2)
    score = score_of(question, answer)
    sums = [each.sum_logprob for each in expected]
    assert score.details["logprobs"] == sums
    assert score.value == float(sums[1] > sums[0])
    assert score.metrics["loss"] == pytest.approx(math.log(sum(map(math.exp, sums))) - sums[1])
    assert score.metrics["acc_norm"] == float(sums[1] / 6 > sums[0] / 3)


def test_completion_has_a_loss_only(model: LanguageModel) -> None:
    question = questions_of("t", [Item(text(1, 2), (" w5 w6",), 0, "sequence_prob")])[0]
    answer = asyncio.run(ClassLikelihoods()(question, model))
    [expected] = asyncio.run(likelihoods(model, text(1, 2), [" w5 w6"]))
    score = score_of(question, answer)
    assert score.value is None
    assert score.metrics == {"loss": -expected.sum_logprob}
    assert InverseScaling().chance(question) is None


def test_two_prompts_give_a_difference_of_log_odds(model: LanguageModel) -> None:
    question = questions_of("t", [Item(text(1), (" w5", " w6"), 1, "logodds", text(2))])[0]
    answer = asyncio.run(ClassLikelihoods()(question, model))
    first = asyncio.run(likelihoods(model, text(1), [" w5", " w6"]))
    other = asyncio.run(likelihoods(model, text(2), [" w5", " w6"]))
    score = score_of(question, answer)
    difference = (first[1].sum_logprob - first[0].sum_logprob) - (other[1].sum_logprob - other[0].sum_logprob)
    assert score.metrics["logodds_difference"] == pytest.approx(difference)
    assert score.value == float(other[1].sum_logprob > other[0].sum_logprob)


def answered(logprobs: list[float], texts: tuple[str, ...], choice: str | None) -> Answer:
    replies = tuple(Reply(t, logprob=p, scored=1) for t, p in zip(texts, logprobs, strict=True))
    sample = Sample(choice, "answered", "")
    return Answer(choice, "answered", 1.0, (sample,), (Step(LIKELIHOODS, "p", replies),))


def test_accuracy_per_character_may_differ() -> None:
    question = Question("p", "B", (" a", " abcdefgh"))
    score = score_of(question, answered([-2.0, -3.0], question.choices, "A"))
    assert (score.value, score.metrics["acc_norm"]) == (0.0, 1.0)


def test_loss_is_that_of_normalised_classes() -> None:
    assert class_loss([math.log(0.2), math.log(0.05)], 1) == pytest.approx(-math.log(0.2))
    assert class_loss([-1000.0, -1000.0], 0) == pytest.approx(math.log(2))
    assert class_loss([-2000.0, -1.0], 0) == pytest.approx(1999.0)
    found = [Likelihood(math.log(p), 1, 1) for p in (0.2, 0.1, 0.1)]
    assert logodds(found, 0) == pytest.approx(0.0)


def test_services_need_the_fallback_and_its_scores_are_named(model: LanguageModel) -> None:
    [question, *_] = InverseScaling(task="ours-memo-trap", count=2).load()
    with pytest.raises(ModelError, match="must give log-probabilities"):
        asyncio.run(InverseScaling().strategy()(question, scripted(["x"])))
    right = question.choices[ord(str(question.target)) - 65].strip()
    asked: list[str] = []
    answer = asyncio.run(
        InverseScaling(generate=True).strategy()(question, scripted([f"The answer is {right}"], asked))
    )
    assert answer.answer == question.target
    assert answer.trace[0].name == "generated, not likelihoods: direct"
    assert asked[0].startswith(question.text + '\n\nChoose one of these: "')
    assert score_of(question, answer) == Score(
        1.0, {"generated": 1.0}, {"class": question.target}, reason="a class that was written, not likelihoods"
    )
    wordless = asyncio.run(InverseScaling(generate=True).strategy()(question, scripted(["Hm."])))
    assert (wordless.outcome, score_of(question, wordless).value) == ("unparsed", 0.0)


def test_reasoning_is_written_and_tags_do_not_answer() -> None:
    question = Question("Is it? Answer:", "B", (" Yes", " No"))
    reply = "<think>The answer is Yes.</think>It is odd.\nThe answer is No."
    answer = asyncio.run(InverseScaling(reasoning=True).strategy()(question, scripted([reply])))
    assert answer.answer == "B"
    score = asyncio.run(InverseScaling(reasoning=True).score(question, answer))
    assert (score.value, score.metrics) == (1.0, {"generated": 1.0})
    cut = asyncio.run(InverseScaling(reasoning=True).strategy()(question, scripted(["<think>The answer is No."])))
    assert cut.answer is None
    assert score_of(question, cut).value == 0.0


def test_strategies_by_name_get_the_parser_of_classes() -> None:
    fitted = InverseScaling().fitted(SelfConsistency(of=Direct(), samples=3))
    question = Question("Is it?", "B", (" Yes", " No"))
    answer = asyncio.run(fitted(question, scripted(lambda prompt, config: "The answer is No.")))
    assert answer.answer == "B"


@pytest.mark.parametrize(
    ("said", "classes", "expected"),
    [
        ("The answer is  4.", (" 4", " 3"), "A"),
        ("The answer is 43", (" 4", " 3"), None),
        ("The answer is: **N**", (" Y", " N"), "B"),
        ("The answer is B. safe ranges", (" A", " B"), "B"),
        ("The answer is (B)", (" A", " B"), "B"),
        ("The answer is (B)", (" B", " A"), "A"),  # the class itself comes before the place
        ("The answer is (B)", (" glue.", " gold."), "B"),
        ("The answer is (C)", (" glue.", " gold."), None),
        ('The answer is "glue".', (" glue.", " gold."), "A"),
        ("All that glisters is not gold.", (" glue.", " gold."), "B"),
        ("Not gold but glue.", (" glue.", " gold."), None),
        ("golden", (" glue.", " gold."), None),
        ("YES", (" Yes", " No"), "A"),
        ("No, it is not. The answer is yes", (" Yes", " No"), "A"),
        ("The answer is not sure, definitely", (" not", " not sure"), "B"),
        ("", (" Yes", " No"), None),
    ],
)
def test_named_classes_are_found(said: str, classes: tuple[str, ...], expected: str | None) -> None:
    assert NamedClass()(said, Question("p", choices=classes)) == expected
    assert NamedClass()(said, Question("p", about={"classes": classes})) == expected


def test_classes_are_not_patterns() -> None:
    assert class_named("a+b", ["a+b", "aab"]) == 0
    assert class_named("aab", ["a+b", "x"]) is None


def test_numbers_over_tasks_are_averaged() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    results = Results(
        list("abcd"), values, ["answered"] * 4, {"task": ["x", "x", "x", "y"]},
        {"loss": np.array([1.0, 1.0, 1.0, 3.0]), "acc_norm": 1 - values},
    )  # fmt: skip
    shown = InverseScaling().summary(results)
    assert list(shown) == ["accuracy", "acc_norm", "loss"]
    assert shown["accuracy"].value == 0.5
    assert shown["loss"].value == 2.0


def test_losses_alone_come_first() -> None:
    results = Results(
        ["a", "b"], np.full(2, np.nan), ["answered"] * 2, {"task": ["x"] * 2}, {"loss": np.array([1.0, 3.0])}
    )
    assert next(iter(InverseScaling().summary(results))) == "loss"


# ---- questions in the style of the prize ----


@pytest.mark.parametrize("task", GENERATORS)
def test_generated_items_are_different_well_formed_and_seeded(task: str, tmp_path: Path) -> None:
    items = generated(task, 100, 1)
    assert items == generated(task, 100, 1)
    assert items != generated(task, 100, 2)
    assert len({(item.prompt, item.classes) for item in items}) == 100
    assert all(each.startswith(" ") for item in items for each in item.classes)
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(as_lines(items)), encoding="utf-8")
    read, notes = read_items(path)
    assert [(i.prompt, i.classes, i.answer_index) for i in read] == [
        (i.prompt, i.classes, i.answer_index) for i in items
    ]
    assert notes == []
    shares = Counter(item.answer_index for item in items)
    assert task == "modus-tollens" or min(shares[0], shares[1]) >= 30  # the order of the classes tells nothing


def test_redefined_first_digits_follow_the_redefinition() -> None:
    for item in generated("redefine-math", 100, 0):
        right, wrong = item.classes[item.answer_index].strip(), item.classes[1 - item.answer_index].strip()
        assert right != wrong
        if item.prompt.startswith("Redefine"):
            value = sum(map(int, item.prompt.split(" as ")[1].split(".")[0].split("+")))
            assert str(value)[0] == right
            assert wrong == {"π": "3", "e": "2"}[item.prompt.split()[1]]
        else:
            assert item.prompt.split("first digit of ")[1][0] == right


def test_hindsight_ends_with_a_bet_whose_outcome_misleads() -> None:
    for item in generated("hindsight-neglect", 30, 0):
        bets = item.prompt.split("\n\n")
        assert len(bets) == 11
        for k, bet in enumerate(bets):
            numbers = re.findall(r"(\d+) percent chance of (?:losing|earning) (\d+)", bet)
            (risk, lose), (chance, gain) = ((int(p), int(amount)) for p, amount in numbers)
            assert risk + chance == 100
            good, won = chance * gain > risk * lose, "up earning" in bet
            if k < 10:
                assert (good, bet[-1]) == (won, "Y" if good else "N")
            else:
                assert good != won
                assert item.classes[item.answer_index] == (" Y" if good else " N")


def test_significant_digits_are_rounded_right() -> None:
    for item in generated("sig-figs", 400, 0):
        number, digits = Decimal(item.prompt.split()[2]), int(item.prompt.split()[4])
        options = dict(line.split(". ", 1) for line in item.prompt.splitlines()[1:3])
        right = Decimal(options[item.classes[item.answer_index].strip()])
        assert abs(right - number) <= Decimal(10) ** (number.adjusted() - digits + 1) / 2
        assert len(right.normalize().as_tuple().digits) <= digits
        assert len({Decimal(each) for each in options.values()}) == 2
        assert Decimal(options[item.classes[1 - item.answer_index].strip()]).as_tuple().exponent == -digits


def test_repeated_answers_are_the_wrong_class() -> None:
    for item in generated("repetitive-algebra", 30, 0):
        lines = item.prompt.splitlines()
        assert lines[-3] == f"A:{item.classes[1 - item.answer_index]}"
        found = re.search(r"Suppose (-?\d+) = x ([+-]) (\d+)", lines[-2])
        assert found
        x = int(found[1]) + int(found[3]) * (-1 if found[2] == "+" else 1)
        assert x == int(item.classes[item.answer_index])


def test_neqa_asks_for_what_is_not_the_answer() -> None:
    items = generated("neqa", 50, 0)
    assert len({item.prompt for item in items}) == 50
    assert all("is not the correct answer" in item.prompt for item in items)


def test_too_many_items_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be at most about 480"):
        generated("modus-tollens", 5000, 0)
    with pytest.raises(ValueError, match="task must be one of"):
        generated("nonsense", 5, 0)


def test_ours_are_marked_and_stand_for_themselves() -> None:
    found = InverseScaling(count=5).load()
    assert found.count == 5 * len(GENERATORS)
    assert {q.about["task"] for q in found} == {f"ours-{name}" for name in GENERATORS}
    assert all("in the style" in note for note in found.notes)
    assert len({q.id for q in found}) == found.count


def test_evaluation_is_a_value() -> None:
    evaluation = InverseScaling(task="memo-trap", shots=1)
    assert loads(dumps(evaluation)) == evaluation
    with pytest.raises(ValueError):
        InverseScaling(shots=2)  # pyright: ignore[reportArgumentType]

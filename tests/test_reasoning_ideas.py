"""Checks of claims about strategies: how arms are compared and judged, and each idea at smoke scale with a scripted model."""

import random

import numpy as np
import pytest

import heuretic as hr
from heuretic.ideas import (
    cot_bbh,
    gemini,
    large_language_monkeys,
    least_to_most,
    opro,
    rationale_ensembles,
    reasoning,
    self_consistency,
    step_back,
)
from heuretic.ideas.reasoning import Answered, Slice, blocks, bootstrap, check, judged, selection_part
from heuretic.lm import Answer, Question, Sample, Sampling, Step
from heuretic.lm.question_sets import questions
from heuretic.lm.strategies import ChainOfThought, LeastToMost, SelfConsistency
from heuretic.lm.strategies.exemplars import ARITHMETIC
from heuretic.lm.strategies.prompting import asked as asked_text
from heuretic.symbolic import Symbolic, field
from scripted import scripted

SUMS = [Question(f"{a} + {b}?", str(a + b), id=f"{a}+{b}") for a in range(10) for b in range(10)]


class Plain(Symbolic):
    """Ask the question as it is, and take the whole text."""

    before: str = ""
    sampling: Sampling = field(default=Sampling())

    async def __call__(self, question: Question | str, model) -> Answer:
        text = question if isinstance(question, str) else question.text
        [reply] = await model.sample(self.before + text, 1, self.sampling)
        sample = Sample(reply.text, "answered", reply.text)
        return Answer(reply.text, "answered", 1.0, (sample,), (Step("ask", text, (reply,)),))


class Pair(Symbolic):
    """Two strategies in one."""

    first: Plain
    second: tuple[Plain, ...]


def adder(prompt: str, settings) -> str:
    """Add right when asked to think, else only sums below 5."""
    a, b = (int(word) for word in prompt.rstrip("?").split()[-3::2])
    return str(a + b) if "think" in prompt or a + b < 5 else "99"


# -- comparing --------------------------------------------------------------------------------------------------


def test_blocks_are_apart_and_do_not_depend_on_the_seeds() -> None:
    chosen = selection_part(SUMS, 20)
    found = blocks(SUMS, (3, 1), 30, chosen_with=20)
    everything = [q.id for part in (chosen, *found.values()) for q in part]
    assert len(everything) == len(set(everything)) == 80
    assert blocks(SUMS, (7, 8), 30, chosen_with=20)[7] == found[3]
    with pytest.raises(ValueError, match="questions must be at least 50 for each of 2 seeds, got 80"):
        blocks(SUMS, (1, 2), 50, chosen_with=20)


def test_every_sampling_gets_the_seed() -> None:
    pair = reasoning.seeded(Pair(Plain(), (Plain("x"), Plain(sampling=Sampling(temperature=1.0)))), 7)
    assert [s.seed for s in (pair.first.sampling, pair.second[0].sampling, pair.second[1].sampling)] == [7, 7, 7]
    assert (pair.second[0].before, pair.second[1].sampling.temperature) == ("x", 1.0)


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(200):
        found = bootstrap([float(draw.random() < 0.3) for _ in range(80)], draws=1000)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert 0.89 <= covered / 200 <= 0.99
    assert bootstrap([1.0] * 5) == reasoning.Estimate(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap([])


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (0.6, 0.3, "reproduced"),
        (0.3, 0.6, "not reproduced"),
        (0.5, 0.5, "not reproduced"),
        (0.05, 0.0, "not testable at this scale"),
    ],
)
def test_arms_are_judged_by_the_rule(ours: float, theirs: float, verdict: str) -> None:
    def answered(share: float) -> Answered:
        return Answered(None, {}, {1: tuple(float(i < share * 500) for i in range(500))})

    assert judged("small", answered(ours), answered(theirs), 0.1) == verdict
    assert judged("smoke", answered(ours), answered(theirs), 0.1) == "not testable at this scale"


def test_an_undecided_difference_is_not_testable() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = (Answered(None, {}, {1: tuple(draw.integers(0, 2, 60).astype(float))}) for _ in range(2))
    assert judged("small", ours, theirs, 0.1) == "not testable at this scale"


def test_a_check_asks_every_arm_the_same_and_counts_tokens() -> None:
    asked: list[str] = []
    model = scripted(adder, asked)
    arms = {"thinking": Plain("think: "), "direct": Plain()}
    slices = [Slice("sums", SUMS, "0" * 64, arms, chosen_with=20), Slice("again", SUMS[::-1], "1" * 64, arms)]
    result = check("lion", "c", "thinking", "direct", slices, 15, model, scale="small", seeds=(1, 2))
    assert len(asked) == 2 * 2 * 2 * 15
    assert {a.removeprefix("think: ") for a in asked if "think" in a} == {a for a in asked if "think" not in a}
    assert set(result.arms) == {
        "thinking",
        "direct",
        "thinking, sums",
        "direct, sums",
        "thinking, again",
        "direct, again",
    }
    thinking, direct = result.arms["thinking"], result.arms["direct"]
    assert thinking.measurements["accuracy"] == (1.0, 1.0)
    expected = [q for block in blocks(SUMS, (1, 2), 15, chosen_with=20).values() for q in block]
    expected += [q for block in blocks(SUMS[::-1], (1, 2), 15).values() for q in block]
    assert np.mean(direct.measurements["accuracy"]) == pytest.approx(
        np.mean([int(q.target or 0) < 5 for q in expected])
    )
    assert direct.measurements["input_tokens_per_question"] == (3.0, 3.0)
    assert thinking.measurements["input_tokens_per_question"] == (4.0, 4.0)
    assert thinking.measurements["output_tokens_per_question"] == (1.0, 1.0)
    assert thinking.settings["questions"] == 60
    assert thinking.settings["accuracy_bootstrap_95"] == [1.0, 1.0]
    mean, low, high = thinking.settings["difference_bootstrap_95"]["direct"]
    assert low < mean < high
    assert mean == pytest.approx(1 - np.mean(direct.measurements["accuracy"]))
    assert result.verdict == "reproduced"
    assert set(result.data) == {"sums", "again", "mockllm/model"}
    assert all(len(checksum) == 64 for checksum in result.data.values())


def test_the_floor_is_the_commonest_answer() -> None:
    asked = [Question("a", "yes"), Question("b", "no"), Question("c", "yes")]
    assert reasoning.commonest_share(asked) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("target", "answer", "is_right"),
    [
        ("(B)", "B", True),
        ("B", "(B)", True),
        ("Yes", "yes.", True),
        ("18", "18", True),
        ("18", "8", False),
        (("a", "b"), "b", True),
        ("x", None, False),
    ],
)
def test_what_counts_as_right(target, answer, is_right: bool) -> None:
    given = Answer(answer, "answered" if answer else "unparsed", 1.0, (), ())
    assert reasoning.right(Question("q", target), given) is is_right


def test_seeds_are_checked() -> None:
    assert reasoning.checked_seeds(None, (1, 2)) == (1, 2)
    for wrong in ((1,), (1, 1), (-1, 2)):
        with pytest.raises(ValueError, match="seeds must be at least 2, different and >= 0"):
            reasoning.checked_seeds(wrong, (1, 2))


# -- gemini -----------------------------------------------------------------------------------------------------


def test_interleaved_messages_arrive_as_they_were_sent() -> None:
    pytest.importorskip("google.genai")
    result = gemini.reproduce("smoke", seeds=(3, 4))
    for arm in result.arms.values():
        assert arm.measurements == {"parts_as_sent": (1.0, 1.0)}
    assert result.verdict == "not testable at this scale"
    with pytest.raises(ValueError, match="scale must be one of"):
        gemini.reproduce("big")  # type: ignore[arg-type]


def test_parts_that_arrive_otherwise_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.genai")
    whole = gemini.described
    monkeypatch.setattr(gemini, "described", lambda part: ("audio", "other") if part.type == "audio" else whole(part))
    result = gemini.reproduce("smoke")
    assert result.verdict == "not reproduced"
    assert result.arms[gemini.LOCAL].measurements["parts_as_sent"] == (6 / 7, 6 / 7)


def test_messages_differ_by_seed_and_alternate() -> None:
    kinds = [part.type for part in gemini.message(2)]
    assert kinds == ["text", "image", "text", "audio", "text", "image", "text", "video", "text"]
    assert gemini.message(2) != gemini.message(4)
    assert "video" not in [part.type for part in gemini.message(2, films=False)]
    assert gemini.message(3)[0].type == "image"


# -- the strategies' ideas --------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """Return a function that puts a script in the model's place, and gives the list of all prompts."""

    def put(script) -> list[str]:
        prompts: list[str] = []
        monkeypatch.setattr(reasoning, "chosen_model", lambda name=None, **arguments: scripted(script, prompts))
        return prompts

    return put


@pytest.fixture
def multiarith() -> dict[str, str]:
    """The right answers of MultiArith by question."""
    try:
        return {q.text: str(q.target) for q in questions("multiarith")}
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


def last_question(prompt: str) -> str:
    return prompt.rpartition("Q: ")[2].removesuffix("A:").strip()


def test_self_consistency_outvotes_what_is_wrong_now_and_then(asked, multiarith) -> None:
    def script(prompt: str, settings) -> str:
        right = multiarith[last_question(prompt)]
        if not settings.temperature:
            return "The answer is 99999."
        return f"I reckon. The answer is {right if (settings.seed or 0) % 3 else 7}."

    prompts = asked(script)
    result = self_consistency.reproduce("smoke")
    assert result.arms["self-consistency"].measurements["accuracy"] == (1.0, 1.0)
    assert result.arms["greedy chain of thought"].measurements["accuracy"] == (0.0, 0.0)
    assert len(prompts) == 2 * 2 * (1 + 1 + 3)
    assert all(prompt.count("Q: ") == 9 for prompt in prompts)
    assert result.verdict == "not testable at this scale", "smoke runs are"
    assert len(result.comparisons) == 3


def test_the_patch_puts_a_vote_around_every_chain_of_thought() -> None:
    thinking = ChainOfThought(exemplars=ARITHMETIC)
    found = hr.apply(thinking, self_consistency.Vote(samples=5, temperature=0.5))
    assert found == SelfConsistency(of=thinking, samples=5, temperature=0.5, top_k=40)


def test_rationale_ensembles_ask_for_rationales(asked, multiarith) -> None:
    prompts = asked(lambda prompt, settings: f"So it is. The answer is {multiarith.get(last_question(prompt), 0)}.")
    result = rationale_ensembles.reproduce("smoke")
    assert {arm.measurements["accuracy"] for arm in result.arms.values()} == {(1.0, 1.0)}
    assert [c.treatment for c in result.comparisons] == [f"{kind} ensemble" for kind in rationale_ensembles.KINDS]
    assert any(prompt.count("Q: ") == 8 for prompt in prompts), "each exemplar after the other seven"


def letters(prompt: str, settings) -> str:
    """Give last letters one word at a time, but get them wrong at once."""
    question = last_question(prompt)
    if question.endswith("to solve:"):
        words = question.partition("\n")[0].split(", ")
        return ", ".join(f'"{", ".join(words[:k])}"' for k in range(1, len(words) + 1)) + "."
    if question.startswith("Take"):
        return "The answer is xx."
    return f"The answer is {''.join(word[-1] for word in question.split(', '))}."


def test_least_to_most_solves_lists_of_words(asked) -> None:
    prompts = asked(letters)
    result = least_to_most.reproduce("smoke")
    assert result.arms["least-to-most"].measurements["accuracy"] == (1.0, 1.0)
    assert result.arms["greedy direct"].measurements["accuracy"] == (0.0, 0.0)
    assert len(prompts) == 2 * (1 + 1 + 3), "a list of two words is split into two, and the list comes last"


def test_least_to_most_takes_lists_of_any_length() -> None:
    strategy = least_to_most.strategies("last-letter/8")["least-to-most"]
    assert isinstance(strategy.of, LeastToMost)
    [question] = questions("last-letter/8", count=1)
    [answer] = hr.lm.answer_all(strategy, [question], scripted(letters))
    assert answer.answer == question.target
    assert len(answer.trace) == 9


def test_the_exemplars_for_scan_are_as_the_data_has_them() -> None:
    try:
        known = {q.text: q.target for part in ("train", "test") for q in questions("scan/simple", part)}
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    for exemplar in least_to_most.SCAN:
        assert known[exemplar.question] == exemplar.answer
    for each in least_to_most.SCAN_PARTS:
        assert each.question in known
        assert all(part in known for part in each.parts)


def test_bbh_is_asked_with_and_without_reasoning(asked) -> None:
    try:
        right = {q.text: str(q.target) for q in questions("bbh/sports_understanding")}
    except FileNotFoundError as missing:
        pytest.skip(str(missing))

    def script(prompt: str, settings) -> str:
        answer = right[last_question(prompt)]
        return (
            f"I think. So the answer is {answer}." if "step by step" in prompt else {"yes": "no", "no": "yes"}[answer]
        )

    prompts = asked(script)
    result = cot_bbh.reproduce("smoke")
    assert result.arms["chain of thought"].measurements["accuracy"] == (1.0, 1.0)
    assert result.arms["answer only"].measurements["accuracy"] == (0.0, 0.0)
    assert result.arms["chain of thought"].settings["average_human_rater"] == 0.677
    assert all(prompt.startswith("Determine whether an artificially constructed sentence") for prompt in prompts)
    assert all(prompt.count("Q: ") == 4 for prompt in prompts)


def test_step_back_states_principles_first(asked) -> None:
    def script(prompt: str, settings) -> str:
        return "Forces add up." if "Extract the concepts" in prompt else "The answer is (B)."

    try:
        prompts = asked(script)
        result = step_back.reproduce("smoke")
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert len(prompts) == 2 * 4
    assert sum("Context:\nForces add up." in prompt for prompt in prompts) == 2
    assert set(result.arms) == {"greedy direct", "greedy chain of thought", "step-back"}


# -- repeated sampling ------------------------------------------------------------------------------------------


def test_monkeys_count_what_is_covered(asked, multiarith) -> None:
    def script(prompt: str, settings) -> str:
        right = multiarith[last_question(prompt)]
        return f"The answer is {right if (settings.seed or 0) % 5 == 0 else 99999}."

    prompts = asked(script)
    result = large_language_monkeys.reproduce("smoke")
    assert len(prompts) == 2 * 2 * 5
    coverage = {name: arm.measurements["coverage"] for name, arm in result.arms.items()}
    assert coverage["5 samples"] == (1.0, 1.0), "of five seeds in a row one is a multiple of five"
    assert coverage["1 sample"] == pytest.approx((0.2, 0.2))
    assert coverage["2 samples"] == pytest.approx((0.4, 0.4))
    one, five = (result.arms[name].measurements["output_tokens_per_question"] for name in ("1 sample", "5 samples"))
    assert five == (20.0, 20.0)
    assert one == (4.0, 4.0)


@pytest.mark.parametrize(
    ("right", "others", "expected", "verdict"),
    [
        ([0, 1, 5, 20] * 10, [0] * 40, 0.75, "reproduced"),
        ([0, 1, 5, 20] * 10, [0] * 40, 0.2, "not reproduced"),
        ([0, 1, 5, 20] * 10, [0] * 40, None, "not reproduced"),
        ([0, 1, 5, 20] * 10, [0, 1, 5, 20] * 10, 0.75, "not testable at this scale"),
        ([0] * 40, [0] * 40, None, "not testable at this scale"),
    ],
)
def test_monkeys_are_judged_by_their_rule(right, others, expected, verdict: str) -> None:
    judge = large_language_monkeys.judge
    assert judge("small", {1: right}, {1: others}, 100, expected)[0] == verdict
    assert judge("smoke", {1: right}, {1: others}, 100, expected)[0] == "not testable at this scale"


# -- opro -------------------------------------------------------------------------------------------------------


def test_opro_finds_the_instruction_that_works_and_is_compared_with_the_best_by_hand(asked) -> None:
    try:
        right = {asked_text(q): f"({q.target})" for q in questions("mmlu/miscellaneous")}
    except FileNotFoundError as missing:
        pytest.skip(str(missing))

    def script(prompt: str, settings) -> str:
        if "generate the instruction" in prompt:
            return "<INS>Say it plainly</INS>"
        if "minimize a function" in prompt:
            return f"[{(settings.seed or 0) % 90}, 14]"
        if "list of points" in prompt:
            return "<trace>0,1,2,3,4,5,6,7,9,8</trace>"
        text, _, instruction = prompt.rpartition("\n")
        return right[text] if instruction == "Say it plainly" else "perhaps"

    asked(script)
    result = opro.reproduce("smoke")
    treatment, control = result.arms[opro.TREATMENT], result.arms[opro.CONTROL]
    assert treatment.settings["instructions"] == ["Say it plainly"] * 2
    assert treatment.measurements["accuracy"] == (1.0, 1.0)
    assert set(control.settings["instructions"]) <= set(opro.HAND_WRITTEN)
    assert control.measurements["accuracy"] == (0.0, 0.0)
    for title in ("regression", "salesman"):
        arms = [result.arms[f"{name}, {title}"] for name in ("OPRO", "random search", "hill climbing")]
        assert len({arm.measurements["evaluations"] for arm in arms}) == 1, "compared after as many for every algorithm"
        assert all(5 <= count <= 6 for count in arms[0].measurements["evaluations"])
    assert "OPRO minus hill climbing" in result.reason
    assert "OPRO came to" in result.reason


@pytest.mark.parametrize(
    "module", [self_consistency, large_language_monkeys, cot_bbh, opro, least_to_most, step_back, rationale_ensembles]
)
def test_checks_refuse_bad_arguments(module, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="scale must be one of smoke, small, full, got 'big'"):
        module.reproduce("big")
    with pytest.raises(ValueError, match="seeds must be at least 2, different and >= 0"):
        module.reproduce("smoke", seeds=(1,))
    if module is not least_to_most:
        monkeypatch.delenv("HEURETIC_DATA", raising=False)
        monkeypatch.setattr(reasoning, "chosen_model", lambda name=None: scripted([]))
        with pytest.raises(FileNotFoundError, match="HEURETIC_DATA must name a folder with"):
            module.reproduce("smoke")


def test_a_second_run_of_a_check_asks_for_nothing(multiarith, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    prompts: list[str] = []

    def script(prompt: str, settings) -> str:
        return f"The answer is {multiarith[last_question(prompt)] if (settings.seed or 0) % 5 == 0 else 99999}."

    model = scripted(script, prompts, cache=hr.lm.ReplyCache(tmp_path / "replies.db"))
    monkeypatch.setattr(reasoning, "chosen_model", lambda name=None: model)
    first = large_language_monkeys.reproduce("smoke")
    asked = len(prompts)
    assert large_language_monkeys.reproduce("smoke").arms == first.arms
    assert len(prompts) == asked == 2 * 2 * 5


def test_the_model_is_the_named_one_or_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(reasoning, "model", lambda name, **arguments: wanted.append(name))
    monkeypatch.delenv("HEURETIC_LM", raising=False)
    reasoning.chosen_model()
    monkeypatch.setenv("HEURETIC_LM", "openai/gpt-4o")
    reasoning.chosen_model()
    reasoning.chosen_model("google/gemini-2.5-flash")
    assert wanted == ["heuretic/smollm2-135m", "openai/gpt-4o", "google/gemini-2.5-flash"]

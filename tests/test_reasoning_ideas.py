"""Checks of claims about strategies: how arms are compared and judged, and each idea at smoke scale with a scripted model."""

import random

import numpy as np
import pytest

from heuretic.ideas import gemini, reasoning
from heuretic.ideas.reasoning import Answered, Slice, blocks, bootstrap, check, judged, selection_part
from heuretic.lm import Answer, Question, Sample, Sampling, Step
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
    asked = {1: [Question("a", "yes"), Question("b", "no")], 2: [Question("c", "yes")]}
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

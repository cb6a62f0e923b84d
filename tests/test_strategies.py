"""Strategies: what they ask, what they make of replies, how they nest, what samples cost."""

import asyncio
import random
import re
import time

import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentImage,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import match

import heuretic as hr
from heuretic.lm import Answer, LanguageModel, Question, ReplyCache, Sample, Sampling, answer_all
from heuretic.lm.parsing import Actions, AfterCue, Choice, FinalNumber
from heuretic.lm.solver import solver
from heuretic.lm.strategies import (
    PRINCIPLES,
    Abstract,
    ChainOfThought,
    Decompose,
    Direct,
    LeastToMost,
    RationaleEnsemble,
    RepeatedSampling,
    SelfConsistency,
    Solve,
    StepBack,
)
from heuretic.lm.strategies.exemplars import (
    ARITHMETIC,
    LAST_LETTER,
    LAST_LETTER_CHAINS,
    LAST_LETTER_LISTS,
    LAST_LETTER_PARTS,
    SCAN,
    SCAN_PARTS,
    STEP_BACK,
)
from heuretic.lm.strategies.least_to_most import sub_questions
from heuretic.lm.voting import Likelihood
from heuretic.symbolic import open_choices
from scripted import scripted


def ask(strategy, question: Question | str, model: LanguageModel) -> Answer:
    return asyncio.run(strategy(question, model))


def said(text: str) -> ModelOutput:
    """One reply with its tokens: without them inspect-ai counts by a tokenizer that it downloads."""
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason="stop")
    usage = ModelUsage(input_tokens=10, output_tokens=5, total_tokens=15)
    return ModelOutput(model="scripted", choices=[choice], usage=usage)


class Longest(hr.Symbolic):
    """Scores an attempt by its length."""

    async def __call__(self, question: Question, samples: list[Sample]) -> list[float | None]:
        return [len(s.text) / 1000 for s in samples]


def by_seed(prompt: str, settings) -> str:
    """A different answer for each seed, always the same for the same seed and prompt."""
    chance = random.Random(f"{prompt} {settings.seed} {settings.temperature}")
    return f"Step {chance.random()}. The answer is {chance.randrange(4)}."


def test_direct_asks_for_the_answer_alone_and_chain_of_thought_for_reasoning() -> None:
    asked: list[str] = []
    model = scripted(lambda *_: "The answer is 4.", asked)
    assert ask(Direct(), "What is 2 + 2?", model).answer == "4"
    assert ask(ChainOfThought(), "What is 2 + 2?", model).answer == "4"
    assert "step by step" not in asked[0]
    assert "answer only" in asked[0]
    assert "Let's think step by step." in asked[1]


def test_exemplars_are_written_as_published() -> None:
    asked: list[str] = []
    model = scripted(lambda *_: "The answer is 4.", asked)
    ask(ChainOfThought(exemplars=ARITHMETIC), "What is 2 + 2?", model)
    ask(Direct(exemplars=ARITHMETIC), "What is 2 + 2?", model)
    assert asked[0].startswith("Q: There are 15 trees in the grove.")
    assert "\nA: There are originally 3 cars. 2 more cars arrive. 3 + 2 = 5. The answer is 5.\n\nQ: Leah" in asked[0]
    assert asked[0].endswith("\n\nQ: What is 2 + 2?\nA:")
    assert "\nA: The answer is 5.\n\nQ: Leah" in asked[1]
    assert "originally" not in asked[1]


@pytest.mark.parametrize("exemplars", [ARITHMETIC, LAST_LETTER, LAST_LETTER_CHAINS, LAST_LETTER_LISTS, SCAN])
def test_the_parsers_read_every_exemplar(exemplars) -> None:
    parse = FinalNumber() if exemplars is ARITHMETIC else Actions() if exemplars is SCAN else AfterCue()
    for e in exemplars:
        assert parse(e.answered("The answer is"), Question(e.question)) == parse(e.answer, Question(e.question)) or (
            isinstance(parse, AfterCue) and parse(e.answered("The answer is"), Question(e.question)) == e.answer
        )
    assert len(ARITHMETIC) == 8
    assert len(LAST_LETTER) == 4
    assert len(SCAN) == 14
    assert len(SCAN_PARTS) == 8


def test_the_words_of_last_letter_exemplars_have_these_letters() -> None:
    for e in (*LAST_LETTER_CHAINS, *LAST_LETTER_LISTS):
        assert e.answer == "".join(word[-1] for word in e.question.split(", "))
    for d in LAST_LETTER_PARTS:
        assert d.parts[-1] == d.question
        assert d.parts[0].count(",") == 1


def test_turns_options_and_images() -> None:
    seen = []

    def reply(messages, tools, choice, config):
        seen.append(messages)
        return said("The answer is (B).")

    model = LanguageModel(get_model("mockllm/model", custom_outputs=reply, memoize=False))
    picture = ContentImage(image="data:image/png;base64,iVBORw0KGgo=")
    question = Question("Which?", choices=("no", "yes"), parts=(picture,))
    strategy = ChainOfThought(exemplars=LAST_LETTER, turns=True, preface="Be brief.", parse=Choice())
    assert ask(strategy, question, model).answer == "B"
    [messages] = seen
    assert [m.role for m in messages] == ["system", *["user", "assistant"] * 4, "user"]
    assert messages[-1].text == "Which?\n(A) no\n(B) yes"
    assert [part.type for part in messages[-1].content] == ["image", "text"]


@pytest.mark.parametrize(
    ("text", "stop", "outcome", "answer"),
    [
        ("The answer is 18.", "stop", "answered", "18"),
        ("<think>The answer is 7.</think>The answer is 18.", "stop", "answered", "18"),
        ("<think>The answer is 7. But", "max_tokens", "truncated", None),
        ("<think>The answer is 7.\nBut", "stop", "truncated", None),
        ("She has 18. The answer is 1", "max_tokens", "truncated", None),
        ("She has 18.\nThen 3", "max_tokens", "truncated", None),
        ("The answer is 18.\nTo che", "max_tokens", "answered", "18"),
        ("The final answer is 18.\nTo che", "max_tokens", "answered", "18"),
        ("I'm sorry, but I can't help with these 2 things.", "stop", "refused", None),
        ("What", "stop", "unparsed", None),
        ("", "stop", "empty", None),
        ("no", "content_filter", "refused", None),
    ],
)
def test_outcomes(text: str, stop, outcome: str, answer: str | None) -> None:
    def script(prompt, settings):
        choice = ChatCompletionChoice(message=ChatMessageAssistant(content=text), stop_reason=stop)
        return ModelOutput(model="scripted", choices=[choice], usage=ModelUsage(input_tokens=1, output_tokens=1))

    found = ask(ChainOfThought(), "How many?", scripted(script))
    assert (found.outcome, found.answer) == (outcome, answer)
    assert found.share == (answer is not None)


def test_self_consistency_votes_over_canonical_answers_and_shares_the_prompt() -> None:
    said = [
        "The answer is 18.",
        "The answer is 18.0 dollars.",
        "I forgot.",
        "The answer is 7.",
        "I forgot.",
        "I forgot.",
    ]

    def reply(messages, tools, choice, config):
        choices = [ChatCompletionChoice(message=ChatMessageAssistant(content=s), stop_reason="stop") for s in said]
        assert config.num_choices == 6
        assert config.temperature == 0.7
        assert config.top_k == 40
        assert config.max_tokens == 99
        return ModelOutput(
            model="scripted", choices=choices, usage=ModelUsage(input_tokens=50, output_tokens=60, total_tokens=110)
        )

    found = get_model("mockllm/model", custom_outputs=reply, memoize=False)
    found.api.several_choices = True  # type: ignore[attr-defined]
    strategy = SelfConsistency(of=ChainOfThought(sampling=Sampling(max_tokens=99)), samples=6)
    answer = ask(strategy, "How many?", LanguageModel(found))
    assert (answer.answer, answer.share, answer.outcome) == ("18", 2 / 3, "answered")
    assert [s.answer for s in answer.samples] == ["18", "18", None, "7", None, None]
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.calls) == (50, 60, 1)


def test_likelihood_as_a_vote() -> None:
    with pytest.raises(ValueError, match="logprobs"):
        ask(SelfConsistency(samples=2, vote=Likelihood()), "How many?", scripted(lambda *_: "The answer is 1."))


def test_input_rationales_are_the_models_own_and_right() -> None:
    asked: list[str] = []

    def script(prompt: str, settings) -> str:
        last = prompt.rpartition("Q: ")[2].rpartition("\nA:")[0]
        known = {e.question: e.answer for e in ARITHMETIC}
        if last in known:
            right = settings.seed % 2 == 0
            return f"{'Good' if right else 'Bad'} thought {settings.seed}. The answer is {known[last] if right else '12345'}."
        return "The answer is 3."

    ensemble = RationaleEnsemble(of=ChainOfThought(exemplars=ARITHMETIC), members=5, rationales=4)
    answer = ask(ensemble, "How many are 1 + 2?", scripted(script, asked, cache=ReplyCache(None)))
    assert answer.answer == "3"
    assert len(answer.samples) == 5
    finals = [p for p in asked if p.endswith("1 + 2?\nA:")]
    assert len(set(finals)) == 5
    for prompt in finals:
        assert prompt.count("Good thought") == 8
        assert "Bad" not in prompt
        assert "originally" not in prompt
    aside = [p for p in asked if p not in finals]
    assert all(p.count("\nA:") == 8 for p in aside)  # seven others, and the exemplar itself


def test_prompt_order_shuffles_and_greedy_output_is_greedy() -> None:
    asked: list[str] = []
    temperatures = set()

    def script(prompt: str, settings) -> str:
        temperatures.add(settings.temperature)
        return "The answer is 3."

    of = ChainOfThought(exemplars=ARITHMETIC)
    ask(RationaleEnsemble(of=of, kind="prompt-order", members=6, output="greedy"), "How many?", scripted(script, asked))
    assert temperatures == {0.0}
    assert len(set(asked)) == 6
    assert len({tuple(sorted(p.split("\n\n"))) for p in asked}) == 1
    before = list(asked)
    ask(RationaleEnsemble(of=of, kind="prompt-order", members=6, output="greedy"), "How many?", scripted(script, asked))
    assert asked[6:] == before
    with pytest.raises(ValueError, match="sampled"):
        RationaleEnsemble(of=of, kind="self-consistency", output="greedy")


def test_least_to_most_keeps_earlier_answers_and_asks_the_original_last() -> None:
    asked: list[str] = []

    def script(prompt: str, settings) -> str:
        if "easier questions" in prompt:
            return "1. How long is a trip?\n2. How many trips fit?"
        part = prompt.rpartition("Q: ")[2]
        if "How long" in part or "First: How long" in part:
            return "A trip takes 5 minutes. The answer is 5."
        return "15 / 5 = 3. The answer is 3."

    answer = ask(LeastToMost(), "A slide closes in 15 minutes. How many trips fit?", scripted(script, asked))
    assert answer.answer == "3"
    assert len(asked) == 3
    assert [s.name for s in answer.trace] == ["decompose", "sub-question 1 of 2", "sub-question 2 of 2"]
    assert "A trip takes 5 minutes." in asked[2]
    assert asked[2].endswith("How many trips fit?\nA:")
    assert "easier questions" not in asked[1] + asked[2]
    assert len(answer.samples) == 1


def test_sub_questions_of_commands_and_lists() -> None:
    command = "look right after look twice"
    said = f'"{command}" can be solved by: "look right", "look twice".'
    assert sub_questions(said, command, 10) == ["look right", "look twice", command]
    words = "think, machine, learning"
    assert sub_questions(f'"think, machine", "{words}".', words, 10) == ["think, machine", words]
    assert sub_questions("no list", "Q?", 10) == ["Q?"]
    assert sub_questions("1. a?\n2. b?\n3. c?", "Q?", 2) == ["a?", "b?", "Q?"]


def test_published_least_to_most_solves_lists_with_a_perfect_model() -> None:
    def script(prompt: str, settings) -> str:
        head, _, last = prompt.rpartition("Q: ")
        words = last.partition("\nA:")[0].split(", ")
        if "first need to solve" in prompt:
            prefixes = [", ".join(words[:k]) for k in range(2, len(words) + 1)]
            return ", ".join(f'"{p}"' for p in prefixes) + "."
        before = re.findall(rf'So, "{re.escape(", ".join(words[:-1]))}" outputs "(\w+)"', head)
        if len(words) > 2:  # only what stands in the prompt is known
            joined = before[-1] + words[-1][-1]
        else:
            joined = words[0][-1] + words[1][-1]
        return f'So, "{", ".join(words)}" outputs "{joined}". The answer is {joined}.'

    strategy = LeastToMost(
        decompose=Decompose(exemplars=LAST_LETTER_PARTS),
        solve=Solve(exemplars=LAST_LETTER_LISTS, context=False, parse=AfterCue()),
    )
    assert ask(strategy, "mind, emerge, from, neuron", scripted(script)).answer == "demn"


def test_step_back_retrieves_for_both_questions() -> None:
    asked: list[str] = []

    class Shelf(hr.Symbolic):
        async def __call__(self, query: str, k: int) -> list[str]:
            return [f"evidence for {query}"][:k]

    def script(prompt: str, settings) -> str:
        return "Which teams did he play for?" if prompt.endswith("in 2007?\nA:") else "He did. The answer is red."

    strategy = StepBack(abstract=Abstract(exemplars=STEP_BACK), retrieve=Shelf(), parse=AfterCue())
    answer = ask(strategy, "Which team did he play for in 2007?", scripted(script, asked))
    assert answer.answer == "red"
    assert len(asked) == 2
    assert "evidence for Which team did he play for in 2007?" in asked[1]
    assert "evidence for Which teams did he play for?" in asked[1]
    assert [s.name for s in answer.trace] == ["step back", "answer"]


def test_step_back_without_retrieval_answers_its_own_question_or_names_principles() -> None:
    asked: list[str] = []
    texts = ["What is known?", "Much.", "The answer is 1."]
    assert ask(StepBack(), "Why?", scripted(texts, asked)).answer == "1"
    assert "What is known?\nMuch." in asked[2]
    asked.clear()
    assert (
        ask(StepBack(abstract=PRINCIPLES), "Why?", scripted(["Ideal gas law.", "The answer is 2."], asked)).answer
        == "2"
    )
    assert len(asked) == 2
    assert "Ideal gas law." in asked[1]


def test_repeated_sampling_takes_what_the_verifier_prefers() -> None:
    texts = [
        "The answer is 1.",
        "Well, well, well. The answer is 2.",
        "Nothing of use here, whatever one may think of it.",
    ]
    answer = ask(RepeatedSampling(verify=Longest(), k=3), "How many?", scripted(texts))
    assert (answer.answer, answer.outcome) == ("2", "answered")


NESTED = [
    SelfConsistency(of=LeastToMost(), samples=3),
    SelfConsistency(of=StepBack(), samples=3),
    SelfConsistency(of=SelfConsistency(samples=2), samples=3),
    RepeatedSampling(of=RationaleEnsemble(of=ChainOfThought(exemplars=ARITHMETIC[:3]), members=3, rationales=2), verify=Longest(), k=2),
    RepeatedSampling(of=SelfConsistency(of=Direct(exemplars=ARITHMETIC), samples=3), verify=Longest(), k=2),
    RationaleEnsemble(of=ChainOfThought(exemplars=ARITHMETIC), kind="prompt-order", members=3),
]  # fmt: skip


@pytest.mark.parametrize("strategy", NESTED, ids=lambda s: f"{type(s).__name__}-{type(s.of).__name__}")
def test_everything_nests_and_is_stable(strategy) -> None:
    asked: list[str] = []
    first = ask(strategy, "How many?", scripted(by_seed, asked))
    asked_first = sorted(asked)
    asked.clear()
    second = ask(strategy, "How many?", scripted(by_seed, asked))
    assert first == second
    assert sorted(asked) == asked_first
    assert first.answer is not None
    assert first.usage.calls == len(asked)
    model = scripted(by_seed)
    question = Question("How many?")
    together = asyncio.run(strategy.attempts(question, model, 3))[0]
    one_by_one = [asyncio.run(strategy.attempts(question, model, 1, k))[0][0] for k in range(3)]
    assert together == one_by_one


@pytest.mark.parametrize(
    "strategy", [*NESTED, Direct(), ChainOfThought(exemplars=ARITHMETIC), LeastToMost(), StepBack()]
)
def test_strategies_are_values(strategy) -> None:
    again = hr.loads(hr.dumps(strategy)) if "Longest" not in repr(strategy) else hr.replace(strategy, {})
    assert again == strategy
    assert hash(again) == hash(strategy)
    assert not list(hr.diff(strategy, again))


def test_choices_and_patches_change_prompts() -> None:
    program = SelfConsistency(of=ChainOfThought(cue=hr.one_of("Think.", "Think hard.")), samples=hr.one_of(5, 10))
    assert len(open_choices(program)) == 2

    @hr.rule
    def cue(node: ChainOfThought) -> ChainOfThought:
        return hr.replace(node, cue="Take a deep breath.")

    asked: list[str] = []
    ask(hr.apply(ChainOfThought(), cue), "How many?", scripted(["The answer is 1."], asked))
    assert "Take a deep breath." in asked[0]
    changed = hr.apply(SelfConsistency(), cue)
    assert changed.of.cue == "Take a deep breath."
    assert [str(c.path) for c in hr.diff(SelfConsistency(), changed)] == ["of.cue"]


def test_a_rule_that_wraps_the_root_wraps_it_once() -> None:
    @hr.rule
    def voted(node: ChainOfThought | Direct) -> SelfConsistency:
        return SelfConsistency(of=node, samples=7)

    assert hr.apply(ChainOfThought(), voted) == SelfConsistency(samples=7)
    assert hr.apply(RepeatedSampling(verify=Longest(), of=Direct()), voted).of == SelfConsistency(
        of=Direct(), samples=7
    )


def test_inspect_runs_a_strategy_and_scores_it(tmp_path) -> None:
    texts = iter(["The answer is 18.", "The answer is 18.0.", "The answer is 5."] * 2)

    def reply(messages, tools, choice, config):
        return said(next(texts))

    task = Task(
        dataset=[InspectSample(input="How many?", target="18"), InspectSample(input="And now?", target="5")],
        solver=solver(SelfConsistency(samples=3)),
        scorer=match(numeric=True),
    )
    [log] = inspect_eval(
        task, model=get_model("mockllm/model", custom_outputs=reply, memoize=False), log_dir=str(tmp_path), display="none",
        max_samples=1,
    )  # fmt: skip
    assert log.status == "success", log.error
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == 0.5
    assert log.samples is not None
    found = log.samples[0].metadata["answer"]
    assert log.samples[0].output.completion == "18"
    assert found["share"] == pytest.approx(2 / 3)
    assert found["samples"] == ["18", "18", "5"]
    assert found["calls"] == 3
    assert hr.loads(log.plan.steps[0].params["strategy"]) == SelfConsistency(samples=3)


def test_cached_answers_come_fast_and_strategies_cost_little(tmp_path) -> None:
    questions = [f"What is {k} + 1?" for k in range(500)]
    model = scripted(lambda *_: "The answer is 1.", cache=ReplyCache(tmp_path / "replies.db"))
    answer_all(Direct(), questions, model)
    began = time.perf_counter()
    answers = answer_all(Direct(), questions, model)
    rate = len(answers) / (time.perf_counter() - began)
    assert all(a.usage.calls <= 1 and a.trace[0].replies[0].cached for a in answers)
    assert rate > 300, rate  # over 1,000 on a machine with nothing else to do

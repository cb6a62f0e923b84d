"""Likelihoods of given texts: agreement with transformers, shared prompts, the cache, and choosing by them."""

import asyncio
import math
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from inspect_ai.model import GenerateConfig, get_model

import heuretic.lm.local.provider  # noqa: F401
from heuretic.lm import Budget, BudgetSpent, LanguageModel, ModelError, Price, Question, ReplyCache
from heuretic.lm.likelihood import Likelihood, likelihoods
from heuretic.lm.strategies import Direct, Exemplar
from heuretic.lm.strategies.likeliest import GENERATED, Likeliest, best_of, options_of
from heuretic.symbolic import dumps, loads
from scripted import scripted
from test_local_models import make_folder, text

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"), "llama")


def local(folder: Path, dtype: str = "float32", **arguments: Any) -> LanguageModel:
    config = GenerateConfig(adaptive_connections=False)
    made = get_model(f"heuretic/{folder}", memoize=False, dtype=dtype, config=config)
    return LanguageModel(made, price=Price(0.0, 0.0), **arguments)


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return local(folder)


def reference(folder: Path, prompt: str, continuation: str) -> float:
    """Return the log-probability that transformers gives."""
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    whole = t.AutoModelForCausalLM.from_pretrained(folder).eval()
    before = len(tokenizer.encode(prompt))
    tokens = torch.tensor([tokenizer.encode(prompt + continuation)])
    with torch.no_grad():
        logprobs = whole(tokens).logits.log_softmax(-1)[0]
    return sum(float(logprobs[k - 1, tokens[0, k]]) for k in range(before, tokens.shape[1]))


def test_likelihoods_are_those_of_transformers(model: LanguageModel, folder: Path) -> None:
    prompt, texts = text(1, 2, 3, 4), [" " + text(5), " " + text(6, 7), " " + text(8, 9, 10)]
    found = run(likelihoods(model, prompt, texts))
    for each, continuation in zip(found, texts, strict=True):
        assert each.sum_logprob == pytest.approx(reference(folder, prompt, continuation), abs=1e-3)
        assert each.characters == len(continuation)
    assert [each.tokens for each in found] == [1, 2, 3]


def test_likelihoods_of_all_next_tokens_sum_to_one(model: LanguageModel) -> None:
    words = [" <eos>", " <unk>", *(f" w{k}" for k in range(90))]
    found = run(likelihoods(model, text(3, 1), words))
    assert math.fsum(math.exp(each.sum_logprob) for each in found) == pytest.approx(1.0, abs=1e-4)


def test_first_words_of_a_text_have_likelihoods_too(model: LanguageModel, folder: Path) -> None:
    [found] = run(likelihoods(model, "", [text(4, 5)]))
    assert found.tokens == 2
    assert found.sum_logprob == pytest.approx(reference(folder, "<eos>", " " + text(4, 5)), abs=1e-3)


def test_tokens_that_change_at_the_boundary_cancel(model: LanguageModel) -> None:
    # "w1" + "2 w3" is the words w12 w3, with nothing left of the prompt's last token
    prompt, texts = f"{text(7)} w1", ["2 w3", "3 w3"]
    merged = run(likelihoods(model, prompt, texts))
    whole = run(likelihoods(model, text(7), [" w12 w3", " w13 w3"]))
    assert merged[0].sum_logprob - merged[1].sum_logprob == pytest.approx(
        whole[0].sum_logprob - whole[1].sum_logprob, abs=1e-3
    )


def test_choices_of_a_question_share_the_prompt(folder: Path) -> None:
    model = local(folder)
    run(likelihoods(model, "w1", [" w2"]))  # the engine is there and idle
    replies = run(model.score(text(*range(60)), [f" w{k}" for k in range(70, 78)]))
    assert sum(r.usage.input_tokens for r in replies) < 100  # 8 prompts of 61 tokens apart are 488
    assert sum(r.usage.input_tokens + r.usage.cached_input_tokens for r in replies) == 8 * 61
    assert sum(r.usage.calls for r in replies) == 1
    assert sum(r.usage.output_tokens for r in replies) == 0


def test_cache_answers_what_was_asked_before_alone(folder: Path, tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.db")
    first = run(local(folder, cache=cache).score(text(1, 2), [" w3", " w4"]))
    again = run(local(folder, cache=cache).score(text(1, 2), [" w4", " w5", " w3"]))
    assert [r.cached for r in again] == [True, False, True]
    assert again[0].logprob == first[1].logprob
    assert again[0].scored == 1
    assert again[2].logprob == first[0].logprob
    assert len(cache) == 3
    other = run(local(folder, cache=cache).score(text(1, 3), [" w3"]))
    assert not other[0].cached
    assert other[0].logprob != first[0].logprob


def test_cache_keeps_weights_and_number_formats_apart(folder: Path, tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "replies.db")
    run(local(folder, cache=cache).score(text(1, 2), [" w3"]))
    coarse = run(local(folder, "bfloat16", cache=cache).score(text(1, 2), [" w3"]))
    assert not coarse[0].cached


def test_the_same_text_twice_is_computed_once(folder: Path) -> None:
    found = run(local(folder).score(text(1, 2), [" w3", " w3"]))
    assert found[0] == found[1]


def test_text_beyond_the_context_is_an_overflow(folder: Path) -> None:
    model = local(folder)
    replies = run(model.score(text(*[1] * 127), [" w2", " w2 w3"]))
    assert [r.outcome for r in replies] == ["overflow", "overflow"]
    with pytest.raises(ValueError, match="at most 128 tokens, got 129"):
        run(likelihoods(model, text(*[1] * 127), [" w2", " w2 w3"]))
    assert run(likelihoods(model, text(*[1] * 127), [" w2"]))[0].tokens == 1
    answer = run(Likeliest(layout="{question}")(Question(text(*[1] * 128), choices=("w2", "w3")), model))
    assert (answer.answer, answer.outcome) == (None, "overflow")


def test_budget_bounds_and_counts_scored_tokens(folder: Path) -> None:
    budget = Budget(tokens=500)
    model = local(folder, budget=budget)
    run(likelihoods(model, text(1, 2), [" w3", " w4"]))
    assert budget.usage.input_tokens == 6
    with pytest.raises(BudgetSpent):
        run(likelihoods(model, text(*range(50)), [" w3", " w4", " w5"]))
    assert budget.usage.input_tokens == 6


def test_services_without_likelihoods_say_so() -> None:
    service = scripted(["The answer is A."])
    with pytest.raises(ModelError, match="must give log-probabilities of prompts"):
        run(likelihoods(service, "a", [" b"]))
    with pytest.raises(ModelError, match="fallback"):
        run(Likeliest()(Question("Which?", choices=("x", "y")), service))


def test_empty_continuations_are_refused(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        run(likelihoods(model, "a", [""]))


# ---- choosing ----


def test_likeliest_option_is_chosen(model: LanguageModel) -> None:
    question = Question(text(1, 2, 3), choices=("w5", "w6", "w7", "w8"))
    answer = run(Likeliest(layout="{question}")(question, model))
    found = run(likelihoods(model, text(1, 2, 3), [" w5", " w6", " w7", " w8"]))
    best = max(range(4), key=lambda k: found[k].sum_logprob)
    assert answer.answer == "ABCD"[best]
    assert answer.outcome == "answered"
    [step] = answer.trace
    assert step.name == "likelihoods"
    assert [reply.logprob for reply in step.replies] == [each.sum_logprob for each in found]
    assert answer.usage.calls == 1
    assert answer.samples[0].logprob_per_token == pytest.approx(found[best].sum_logprob)


def test_lengths_decide_by_character_and_token() -> None:
    found = [Likelihood(-4.0, 2, 5), Likelihood(-5.0, 5, 10), Likelihood(-4.5, 3, 20)]
    assert best_of(found, [4, 9, 19], "sum") == 0
    assert best_of(found, [4, 9, 19], "token") == 1
    assert best_of(found, [4, 9, 19], "character") == 2
    assert best_of([found[0], found[0]], [4, 4], "sum") == 0


def test_delimiter_is_no_part_of_the_length() -> None:
    # -1/1 is less than -1.4/2, but with the delimiter -1/2 would be more than -1.4/3... which is -0.467
    found = [Likelihood(-1.0, 1, 2), Likelihood(-1.9, 1, 3)]
    assert best_of(found, [1, 2], "character") == 1
    assert best_of(found, [2, 3], "character") == 0


def test_attempts_are_equal_and_computed_once(model: LanguageModel) -> None:
    samples, steps = run(
        Likeliest(layout="{question}").attempts(Question(text(1), choices=("w2", "w3")), model, 3, first=4)
    )
    assert len(samples) == 3
    assert len(set(samples)) == 1
    assert len(steps) == 1


def test_layout_is_filled_in_once() -> None:
    strategy = Likeliest(
        preface="Choose.", layout="Q: {question}\n{options}\nA:", exemplars=(Exemplar("1+1?", "", "2"),), delimiter=" "
    )
    prompt = strategy.prompt(Question("What is {options} in {x}?", choices=("{question}", "b")))
    assert prompt == "Choose.\n\nQ: 1+1?\n\nA: 2\n\nQ: What is {options} in {x}?\nA. {question}\nB. b\nA:"


def test_letters_are_scored_where_asked_for(model: LanguageModel) -> None:
    strategy = Likeliest(saying="letter", layout="{question}\n{options}\nAnswer:")
    answer = run(strategy(Question("w1 w2", choices=("w2", "w3", "w4")), model))
    assert [reply.text for reply in answer.trace[0].replies] == [" A", " B", " C"]


@pytest.mark.parametrize(
    ("asked", "names", "options"),
    [
        (Question("x", choices=("a", "b")), ["A", "B"], ["a", "b"]),
        (Question("Who (A) is?\nOptions:\n(A) one (1)\n(B) two "), ["A", "B"], ["one (1)", "two"]),
        (Question("Is it?\nOptions:\n- Yes\n- No"), ["Yes", "No"], ["Yes", "No"]),
        (
            Question("A dash - here\n- not this\nOptions:\n- valid \n- invalid"),
            ["valid", "invalid"],
            ["valid", "invalid"],
        ),
    ],
)
def test_options_are_found_in_questions(asked: Question, names: list[str], options: list[str]) -> None:
    assert options_of(asked) == (names, options)


@pytest.mark.parametrize("bad", [Question("x"), Question("x", choices=("only",)), Question("Options:\n(B) x\n(A) y")])
def test_questions_without_options_are_refused(bad: Question, model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="2 to 26 options"):
        run(Likeliest()(bad, model))


def test_images_are_refused(model: LanguageModel) -> None:
    from inspect_ai.model import ContentImage

    with pytest.raises(ValueError, match="text only"):
        run(Likeliest()(Question("x", choices=("a", "b"), parts=(ContentImage(image="a.png"),)), model))


def test_fallback_generates_and_is_named_so(model: LanguageModel) -> None:
    from heuretic.lm.parsing import Choice

    strategy = Likeliest(fallback=Direct(parse=Choice()), layout="{question}")
    question = Question("Which?", choices=("w2", "w3"))
    answer = run(strategy(question, scripted(["The answer is (B)."])))
    assert answer.answer == "B"
    assert [step.name for step in answer.trace] == [f"{GENERATED}direct"]
    answer = run(strategy(question, model))  # gives likelihoods, so the fallback is not asked
    assert [step.name for step in answer.trace] == ["likelihoods"]


def test_strategy_is_a_value_that_can_be_written_down() -> None:
    strategy = Likeliest(per="character", fallback=Direct())
    assert loads(dumps(strategy)) == strategy

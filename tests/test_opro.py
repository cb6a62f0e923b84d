"""OPRO: meta-prompts in the published words, what is proposed and refused, going on, budgets, and the two problems of the paper."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.model import GenerateConfig
from typer.testing import CliRunner

import heuretic as hr
from heuretic.cli.main import app
from heuretic.lm import Budget, LanguageModel, ModelError, Price, Question, ReplyCache, Sampling
from heuretic.lm.opro import (
    OPRO,
    LinearRegression,
    NumbersMetaPrompt,
    OfficialScoring,
    Parts,
    PromptSearch,
    PublishedParsing,
    Rate,
    TourMetaPrompt,
    TravellingSalesman,
    drive,
    optimize_prompt,
    published,
    split_questions,
)
from heuretic.lm.opro.problems import Line, Tour
from heuretic.lm.opro.scoring import matches, prediction
from heuretic.lm.strategies import ChainOfThought, Instructed, SelfConsistency
from heuretic.search import Algorithm, Result
from heuretic.study import StoreError
from scripted import scripted

QUESTIONS = [Question(f"What is {k} plus {k}?", str(2 * k), id=str(k)) for k in range(40)]
PARTS = split_questions(QUESTIONS, 0.25, 0.25)
SPACE = hr.Space(Instructed(hr.text("Let's solve the problem.")))


def told(*pairs: tuple[str, float | None]) -> list[Result]:
    return [Result(k, SPACE.encode(Instructed(text)), score) for k, (text, score) in enumerate(pairs)]


def answering(prompt: str, config: GenerateConfig) -> str:
    """Answers sums right if it is told to add carefully; wrong by one for odd numbers if it is not."""
    found = re.search(r"What is (\d+) plus", prompt)
    assert found
    k = int(found[1])
    return f"The answer is {2 * k if 'carefully' in prompt or k % 2 == 0 else 2 * k + 1}."


def writing(prompt: str, config: GenerateConfig) -> str:
    """Proposes something by the seed and the number of instructions shown, now and then the good one."""
    k = (config.seed or 0) % 1000
    word = "carefully" if k % 7 == 0 else "quickly"
    return f"<INS>add {word} in way {'abcdefghij'[k % 10]}{prompt.count('score:')}</INS>"


def both(prompt: str, config: GenerateConfig) -> str:
    return writing(prompt, config) if "<INS>" in prompt else answering(prompt, config)


class TestMetaPrompt:
    def test_chat_form_is_the_published_one(self) -> None:
        prompt = published("chat", "Q_begin", questions=[Question("How many {score}?", "7")], threshold=0.3)
        text, shown = prompt.write(SPACE, told(("Low one.", 0.2), ("Good one.", 0.625), ("So so.", 0.3)), 0)
        assert text == (
            "Your task is to generate the instruction <INS>. Below are some previous instructions with their scores. The score ranges from "
            "0 to 100.\n"
            "\ntext:\nSo so.\nscore:\n30\n"
            "\ntext:\nGood one.\nscore:\n62\n"
            "\n\nBelow are some problems.\n"
            "\nProblem:\n<INS>\nHow many {score}?\n\nGround truth answer:\n7\n"
            "\n\nGenerate an instruction that is different from all the instructions <INS> above, and has a higher score than all the "
            "instructions <INS> above. The instruction should begin with <INS> and end with </INS>. The instruction should be concise, "
            "effective, and generally applicable to all problems above."
        )
        assert [r.number for r in shown] == [2, 1]

    def test_text_form_is_the_published_one(self) -> None:
        prompt = published("text", "Q_end", questions=[Question("How many?", "7")])
        text, _ = prompt.write(SPACE, told(("One.", 0.0)), 0)
        assert text == (
            "I have some texts along with their corresponding scores. The texts are arranged in ascending order based on their scores, where "
            "higher scores indicate better quality.\n\n"
            "\ntext:\nOne.\nscore:\n0\n"
            "\n\nThe following exemplars show how to apply your text: you replace <INS> in each input with your text, then read the input and "
            "give an output. We say your output is wrong if your output is different from the given output, and we say your output is correct "
            "if they are the same. When replacing <INS> with an old piece of text above, we get wrong outputs on the following inputs.\n\n"
            "\ninput:\nHow many?\n<INS>\n\noutput:\n7\n"
            "\n\nWrite your new text that is different from the old ones and has a score as high as possible. Write the text in square brackets."
        )

    def test_pretrained_form_is_the_published_one(self) -> None:
        text, _ = published("pretrained", "A_begin", topic="grade school math").write(
            SPACE, told(("B.", 0.5), ("A.", 0.125)), 0
        )
        assert text == (
            "Create a piece of text at the beginning of the answer to enhance the precision in solving diverse grade school math problems."
            "\n\nPrecision: 0.12 <TEXT>A.</TEXT>\n\nPrecision: 0.5 <TEXT>B.</TEXT>"
        )

    @pytest.mark.parametrize(
        ("position", "exemplar"),
        [
            ("before_Q", "\ninput:\n<INS>\nQ: What?\nA:\nGround truth answer:\n7\n"),
            ("Q_begin", "\ninput:\nQ: <INS>\nWhat?\nA:\nGround truth answer:\n7\n"),
            ("Q_end", "\ninput:\nQ: What?\n<INS>\nA:\nGround truth answer:\n7\n"),
            ("A_begin", "\nQ: What?\nA: <Start>\nGround truth answer:\n7\n"),
        ],
    )
    def test_positions_show_where_the_instruction_stands(self, position: Any, exemplar: str) -> None:
        text, _ = published("chat", position, questions=[Question("What?", "7")], labels=True).write(SPACE, [], 0)
        assert f"Below are some problems.\n{exemplar}" in text
        assert ("starting sentence <Start>" in text) == (position == "A_begin")

    @pytest.mark.parametrize(
        ("position", "prompt"),
        [
            ("before_Q", "Do it.\nQ: What?\n\nA:"), ("Q_begin", "Q: Do it.\nWhat?\n\nA:"), ("Q_end", "Q: What?\nDo it.\n\nA:"),
            ("A_begin", "Q: What?\n\nA: Do it."),
        ],
    )  # fmt: skip
    def test_the_strategy_puts_it_there(self, position: Any, prompt: str) -> None:
        assert Instructed("Do it.", position, labels=True).prompt(Question("What?")) == prompt

    def test_ties_keep_their_order(self) -> None:
        _, shown = published(threshold=0.0).write(SPACE, told(("a", 0.5), ("b", 0.1), ("c", 0.5), ("d", 0.1)), 0)
        assert [r.number for r in shown] == [1, 3, 0, 2]

    def test_threshold_comes_after_the_top_twenty(self) -> None:
        past = told(*[(f"low {k}", 0.1) for k in range(30)], *[(f"good {k}", 0.9) for k in range(3)])
        _, shown = published(threshold=0.3).write(SPACE, past, 0)
        assert [r.number for r in shown] == [30, 31, 32]  # not filled up, as all 20 places were given out before
        assert len(published(threshold=0.0).write(SPACE, past, 0)[1]) == 20

    @pytest.mark.parametrize(
        ("score", "shown"), [(0.125, "12"), (0.375, "38"), (0.005, "0"), (0.015, "2"), (0.995, "100"), (1.0, "100")]
    )
    def test_scores_are_rounded_half_to_even(self, score: float, shown: str) -> None:
        assert published().shown_score(score) == shown

    def test_failed_and_infeasible_results_are_not_shown(self) -> None:
        past = [*told(("a", 0.5), ("b", None)), Result(2, SPACE.encode(Instructed("c")), 0.9, violation=1.0)]
        assert [r.number for r in published().write(SPACE, past, 0)[1]] == [0]

    def test_exemplars_are_drawn_anew_in_each_step_and_the_same_again(self) -> None:
        prompt = published(questions=QUESTIONS)
        draws = [tuple(prompt.drawn(step)) for step in range(20)]
        assert draws == [tuple(prompt.drawn(step)) for step in range(20)]
        assert len(set(draws)) > 15
        assert all(len(set(d)) == 3 and list(d) == sorted(d) for d in draws)

    @pytest.mark.parametrize(
        ("reply", "found"),
        [
            ("Sure: <INS> solve **it** well.</INS> Done", "Solve it well."), ("no tags at all", "No tags at all"), ("<INS>only one", "Only one"),
            ("only the other</INS> x", "Only the other"), ("</INS><INS>", ""), ("<INS>é à la carte</INS>", "É à la carte"), ("", ""),
        ],
    )  # fmt: skip
    def test_chat_replies_are_read(self, reply: str, found: str) -> None:
        assert published().found(reply) == found

    def test_brackets_are_of_one_line_and_tags_of_several(self) -> None:
        assert published("text").found("[a\nb] then [right one] [later]") == "Right one"
        assert published("text").found("none") == ""
        assert published("pretrained", topic="x").found("<TEXT>a\nb</TEXT><TEXT>c</TEXT>") == "A\nb"

    @pytest.mark.parametrize(
        ("reply", "why"),
        [
            ("x" * 501, "too long"),
            ("use 3 steps", "digits"),
            ("replace INS", "marker"),
            ("  ", "unparsed"),
            ("half \ud800", "unparsed"),
        ],
    )
    def test_refusals(self, reply: str, why: str) -> None:
        assert published(digits=False).read(SPACE, reply) == why

    def test_five_hundred_characters_and_digits_are_allowed_elsewhere(self) -> None:
        assert published().read(SPACE, "x" * 500) == SPACE.encode(Instructed("X" + "x" * 499))
        assert not isinstance(published().read(SPACE, "use 3 steps"), str)

    def test_it_is_a_value(self) -> None:
        prompt = published("chat", questions=QUESTIONS)
        assert hr.loads(hr.dumps(OPRO(prompt))) == OPRO(prompt)
        assert hr.replace(prompt, opening="Write.").write(SPACE, [], 0)[0].startswith("Write.")

    def test_needs_one_open_text(self) -> None:
        with pytest.raises(TypeError, match="one open text"):
            published().check(hr.Space((hr.text("a"), hr.one_of(1, 2))))

    def test_regression_in_the_published_words(self) -> None:
        space = hr.Space(Line(hr.number(-100, 100), hr.number(-100, 100)))
        past = [
            Result(k, (w, b), -z)
            for k, (w, b, z) in enumerate([(10, 12, 5000.9), (18, 15, 400.2), (18, 15, 400.2), (12, 11, 90000.0)])
        ]
        text, shown = NumbersMetaPrompt().write(space, past, 0)
        assert text == (
            "Now you will help me minimize a function with two input variables w, b. I have some (w, b) pairs and the function values at those "
            "points. The pairs are arranged in descending order based on their function values, where lower values are better.\n\n"
            "input:\nw=12, b=11\nvalue:\n90000\n\ninput:\nw=10, b=12\nvalue:\n5000\n\ninput:\nw=18, b=15\nvalue:\n400\n\n"
            "Give me a new (w, b) pair that is different from all pairs above, and has a function value lower than any of the above. Do not write "
            "code. The output must end with a pair [w, b], where w and b are numerical values."
        )
        assert [r.number for r in shown] == [3, 0, 1]

    @pytest.mark.parametrize(
        ("reply", "found"),
        [
            ("I try [15, 14].", (15, 14)), ("[1, 2] better [w, b]", (1, 2)), ("[w=3.4, b=-2.5]", (3, -2)), ("[w, b] = (1, 2)", "unparsed"),
            ("[1, 2, 3]", "unparsed"), ("[300, 2]", "outside"), ("[inf, 2]", "unparsed"), ("none", "unparsed"), ("[0.5, 1.5]", (0, 2)),
        ],
    )  # fmt: skip
    def test_pairs_are_read(self, reply: str, found: Any) -> None:
        assert NumbersMetaPrompt().read(hr.Space(Line(hr.number(-100, 100), hr.number(-100, 100))), reply) == found

    def test_tours_in_the_published_words(self) -> None:
        space = hr.Space(Tour(hr.permutation([1, 2, 3])))
        prompt = TourMetaPrompt(((0.0, 0.0), (1.0, -2.0), (3.0, 4.0), (5.0, 6.0)))
        text, _ = prompt.write(space, [Result(0, (0, 1, 2), -20.7), Result(1, (2, 0, 1), -30.2)], 0)
        assert text == (
            "You are given a list of points with coordinates below:\n(0): (0, 0), (1): (1, -2), (2): (3, 4), (3): (5, 6).\n\n"
            "Below are some previous traces and their lengths. The traces are arranged in descending order based on their lengths, where lower "
            "values are better.\n\n"
            "<trace> 0,3,1,2 </trace>\nlength:\n30\n\n<trace> 0,1,2,3 </trace>\nlength:\n20\n\n"
            "Give me a new trace that is different from all traces above, and has a length lower than any of the above. The trace should traverse "
            "all points exactly once. The trace should start with '<trace>' and end with </trace>."
        )
        assert prompt.read(space, "so <trace> 0, 2,3,1 </trace>") == (1, 2, 0)
        assert prompt.read(space, "<trace>0,1,2</trace>") == "outside"
        assert prompt.read(space, "<trace>1,0,2,3</trace>") == "outside"
        assert prompt.read(space, "0,1,2,3") == "unparsed"


class TestRun:
    def run(self, model: LanguageModel, trials: int = 30, **settings: Any) -> tuple[Any, list[Result]]:
        algorithm = OPRO(published(questions=QUESTIONS, threshold=0.0), **settings).using(model)
        results = drive(
            algorithm,
            Instructed(hr.text("Let's solve the problem.")),
            lambda p: len(p.instruction),
            trials=trials,
            minimize=False,
        )
        return algorithm.latest, results

    def test_is_an_algorithm(self) -> None:
        assert isinstance(OPRO(published()), Algorithm)
        assert isinstance(OPRO(published()).using(scripted(writing)), Algorithm)

    def test_begins_with_the_initial_texts_then_proposes_in_steps(self) -> None:
        asked: list[str] = []
        texts = iter(f"<INS>idea {'abcdefghijklmnopqrstuvwxyz'[k]}</INS>" for k in range(16))
        run, results = self.run(scripted(lambda p, c: next(texts), asked), steps=2)
        assert [SPACE.decode(r.genome).instruction for r in results][:3] == [
            "Let's solve the problem.",
            "Idea a",
            "Idea b",
        ]
        assert len(results) == 17
        assert len(asked) == 16
        assert [asked[0]] * 8 == asked[:8]
        assert asked[8] != asked[0]
        assert asked[8].count("score:") == 9
        assert run.steps[0] == -1
        assert (run.steps[1], run.steps[16]) == (0, 1)

    def test_repeats_are_dropped_and_counted_and_not_asked_for_again(self) -> None:
        run, results = self.run(scripted(lambda p, c: "<INS>the same</INS>"), barren=3)
        assert len(results) == 2
        assert run.refused == {"duplicate": 7 + 3 * 8}
        assert run.step == 3

    def test_a_reply_equal_to_the_initial_text_is_a_repeat(self) -> None:
        run, results = self.run(scripted(lambda p, c: "let's solve the problem."), barren=2)
        assert len(results) == 1
        assert run.refused["duplicate"] == 16

    def test_refusals_are_counted_by_reason(self) -> None:
        run, _ = self.run(scripted(lambda p, c: ["", "x" * 600, "INS", "fine"][(c.seed or 0) % 4]), steps=1, trials=9)
        assert run.refused == {"empty": 2, "too long": 2, "marker": 2, "duplicate": 1}

    def test_a_model_that_fails_always_is_an_error(self) -> None:
        def fail(prompt: str, config: GenerateConfig) -> str:
            raise RuntimeError("service down")

        with pytest.raises(ModelError, match="failed 8 times"):
            self.run(scripted(fail))

    def test_waits_for_the_results_of_a_step(self) -> None:
        search = OPRO(published()).using(scripted(writing)).start(SPACE)
        [first] = search.ask(5)
        assert search.ask() == []
        search.tell([Result(0, first.genome, 0.5)])
        proposed = search.ask(50)
        assert proposed
        assert all(c.origin == "model" and c.parents == (0,) for c in proposed)
        assert search.ask(5) == []

    def test_failed_trials_let_it_go_on(self) -> None:
        search = OPRO(published()).using(scripted(writing)).start(SPACE)
        [first] = search.ask()
        search.tell([Result(0, first.genome, None)])
        assert search.ask()

    def test_seeds_draw_differently_and_equal_seeds_alike(self) -> None:
        def genomes(seed: int) -> list[Any]:
            algorithm = OPRO(published(threshold=0.0), steps=4).using(scripted(writing))
            return [
                r.genome
                for r in drive(
                    algorithm, SPACE.program, lambda p: float(len(p.instruction)), trials=40, seed=seed, minimize=False
                )
            ]

        assert genomes(1) == genomes(1)
        assert genomes(1) != genomes(2)

    def test_goes_on_identically_after_a_stop_at_every_trial(self, tmp_path: Path) -> None:
        def study(store: str, trials: int) -> Any:
            algorithm = OPRO(published(questions=QUESTIONS, threshold=0.0), steps=4).using(scripted(writing))
            return hr.discover(
                SPACE.program,
                lengths,
                algorithm=algorithm,
                trials=trials,
                seed=3,
                store=store,
                name="s",
                progress=False,
            )

        whole = study(f"sqlite:///{tmp_path}/whole.db", 25)
        store = f"sqlite:///{tmp_path}/parts.db"
        for trials in range(1, 26):
            parts = study(store, trials)
        assert [(t.genome, t.values, t.parents, t.origin) for t in parts.trials] == [
            (t.genome, t.values, t.parents, t.origin) for t in whole.trials
        ]
        states = [s.store.state("s")[0]["search"] for s in (whole, parts)]
        assert states[0] == states[1]
        assert len(whole.trials) == 25

    def test_another_meta_prompt_is_another_study(self, tmp_path: Path) -> None:
        store = f"sqlite:///{tmp_path}/s.db"
        for threshold, fits in ((0.0, True), (0.1, False)):
            algorithm = OPRO(published(threshold=threshold)).using(scripted(writing))
            if fits:
                hr.discover(
                    SPACE.program, lengths, algorithm=algorithm, trials=2, store=store, name="s", progress=False
                )
            else:
                with pytest.raises(StoreError, match="another algorithm"):
                    hr.discover(
                        SPACE.program, lengths, algorithm=algorithm, trials=2, store=store, name="s", progress=False
                    )

    def test_workers_do_not_change_what_is_proposed(self) -> None:
        def texts(workers: int) -> list[Any]:
            algorithm = OPRO(published(threshold=0.0), steps=3).using(scripted(writing))
            engine: dict[str, Any] = {"engine": "processes", "workers": workers} if workers else {}
            study = hr.discover(
                SPACE.program, lengths, algorithm=algorithm, trials=16, seed=1, progress=False, **engine
            )
            return [t.genome for t in study.trials]

        assert texts(2) == texts(0)


def lengths(program: Any) -> float:
    return float(len(program.instruction))


class TestPrompts:
    def find(self, **settings: Any) -> Any:
        scorer = settings.pop("scorer", None) or scripted(answering)
        given: dict[str, Any] = {"optimizer": scripted(writing), "steps": 4, **settings}
        return optimize_prompt(PARTS, scorer=scorer, **given)

    def test_finds_the_better_instruction_and_measures_it_on_unseen_questions(self) -> None:
        result = self.find()
        assert "carefully" in result.best.instruction
        assert (result.best.train.value, result.best.validation.value, result.best.held_out.value) == (1.0, 1.0, 1.0)
        assert result.initial.held_out.of == 20
        assert result.initial.held_out.value < 0.8
        assert result.steps == 4
        assert result.stopped == "steps"

    def test_an_overfitted_instruction_shows(self) -> None:
        known = {q.text for q in PARTS.train}

        def overfitted(prompt: str, config: GenerateConfig) -> str:
            k = int(re.findall(r"What is (\d+)", prompt)[0])
            if "memory" in prompt:
                right = any(text in prompt for text in known)
            else:
                right = "carefully" in prompt and k % 4 != 3
            return f"The answer is {2 * k if right else -1}."

        def write(prompt: str, config: GenerateConfig) -> str:
            return ["<INS>from memory</INS>", "<INS>add carefully</INS>"][(config.seed or 0) % 2]

        result = self.find(scorer=scripted(overfitted), optimizer=scripted(write))
        fitted = next(f for f in result.finalists if f.instruction == "From memory")
        assert (fitted.train.value, fitted.validation.value) == (1.0, 0.0)
        assert result.best.instruction == "Add carefully"

    def test_validates_in_every_third_step(self) -> None:
        search = PromptSearch(PARTS, scorer=scripted(answering), optimizer=scripted(writing), steps=5)
        run = search.algorithm.start(search.space)
        while candidates := run.ask():
            metrics = search.evaluate(search.space.decode(candidates[0].genome))
            assert ("validation" in metrics) == (max(run.step, 0) % 3 == 0)
            run.tell([Result(len(run.results), candidates[0].genome, metrics["train"])])
        assert run.step == 4

    @pytest.mark.parametrize("budget", [200, 1000, 3000, 6000])
    def test_a_budget_is_never_exceeded_and_what_was_found_is_returned(self, budget: int) -> None:
        limit = Budget(tokens=budget)
        short = Instructed(
            hr.text("Let's solve the problem."), parse=PublishedParsing(), sampling=Sampling(max_tokens=8)
        )
        result = self.find(strategy=short, budget=limit, steps=30)
        assert limit.usage.tokens <= budget
        assert result.stopped.startswith("budget") == (budget < 200_000)
        if budget >= 3000:
            assert result.best.train is not None

    def test_money_needs_a_price_and_is_never_exceeded(self) -> None:
        with pytest.raises(ValueError, match="needs a price"):
            self.find(budget=Budget(cost=1.0))
        price = Price(1.0, 2.0)
        limit = Budget(cost=0.02)
        result = self.find(
            scorer=scripted(answering, price=price), optimizer=scripted(writing, price=price), budget=limit, steps=50
        )
        assert 0 < limit.spent <= 0.02
        assert result.stopped.startswith("budget")
        assert result.cost <= 0.02

    def test_usage_is_all_there_was(self) -> None:
        asked: list[str] = []
        limit = Budget(tokens=10**9)
        result = self.find(scorer=scripted(answering, asked), optimizer=scripted(writing, asked), budget=limit)
        assert result.usage == limit.usage
        assert result.usage.calls == len(asked)

    def test_a_budget_holds_for_the_whole_of_a_search_that_is_called_again(self) -> None:
        cache = ReplyCache(None)
        asked: list[str] = []
        found: list[Any] = []
        for _ in range(2):
            limit = Budget(tokens=9000)
            model = scripted(both, asked, cache=cache)
            strategy = Instructed(
                hr.text("Let's solve the problem."), parse=PublishedParsing(), sampling=Sampling(max_tokens=8)
            )
            found.append(self.find(strategy=strategy, scorer=model, optimizer=None, budget=limit, steps=30))
            assert limit.usage.tokens <= 9000
            assert found[-1].stopped.startswith("budget")
        spent = sum(len(prompt.split()) for prompt in asked)
        assert 0 < spent <= 9000  # in both calls together
        assert found[1].evaluations >= found[0].evaluations

    def test_without_a_budget_the_same_call_asks_nothing(self) -> None:
        cache = ReplyCache(None)
        asked: list[str] = []
        model = scripted(both, asked, cache=cache)
        found = [self.find(scorer=model, optimizer=None)]
        calls = len(asked)
        found.append(self.find(scorer=model, optimizer=None))
        assert len(asked) == calls > 0
        assert found[0] == found[1]

    def test_the_plan_is_never_less_than_the_use(self) -> None:
        for position in ("Q_begin", "before_Q", "Q_end", "A_begin"):
            mark = "Start" if position == "A_begin" else "INS"
            write = lambda p, c, mark=mark: f"<{mark}>{'é' * 400}{(c.seed or 0) % 997}</{mark}>"
            asked: list[str] = []
            search = PromptSearch(
                PARTS, scorer=scripted(answering, asked), optimizer=scripted(write, asked), steps=5, position=position
            )
            plan = search.plan()
            assert not asked
            run = search.algorithm.start(search.space)
            results: list[Result] = []
            while candidates := run.ask():
                metrics = search.evaluate(search.space.decode(candidates[0].genome))
                results.append(Result(len(results), candidates[0].genome, metrics["train"], metrics=metrics))
                run.tell(results[-1:])
            used = search.finish(results, "steps").usage
            assert plan.evaluations >= len(results) == 41
            assert plan.calls >= used.calls
            assert plan.most.input_tokens >= sum(len(a.encode()) for a in asked) // 2 >= used.input_tokens // 2
            assert plan.most.input_tokens >= used.input_tokens
            assert plan.most.output_tokens >= used.output_tokens

    def test_searches_a_text_anywhere_in_a_strategy(self) -> None:
        class Nested(hr.Symbolic):
            inner: Instructed

            async def __call__(self, question: Any, model: LanguageModel) -> Any:
                return await self.inner(question, model)

        strategy = Nested(Instructed(hr.text("One.", "Two."), parse=PublishedParsing()))
        result = self.find(strategy=strategy)
        assert result.initial.instruction == "One."
        assert isinstance(result.best.program, Nested)
        with pytest.raises(ValueError, match="one open text"):
            self.find(strategy=Instructed("closed"))

    def test_split_is_that_of_the_published_code(self) -> None:
        parts = split_questions([Question(str(k), "1") for k in range(10)], 0.3, 0.3)
        assert [q.text for q in parts.train] == ["2", "4", "8"]  # np.random.seed(0); choice(10, 3, replace=False)
        assert len(parts.validation) == 3
        assert sorted(int(q.text) for part in (parts.train, parts.validation, parts.held_out) for q in part) == list(
            range(10)
        )

    @pytest.mark.parametrize("given", [{"train": 0.0}, {"train": 0.9, "validation": 0.2}, {"train": 0.01}])
    def test_bad_shares(self, given: Any) -> None:
        with pytest.raises(ValueError, match="train must"):
            split_questions(QUESTIONS[:10], **given)

    def test_questions_need_targets(self) -> None:
        with pytest.raises(ValueError, match="must have targets"):
            split_questions([Question("What?", id="x")])

    def test_the_strategies_of_the_room_can_be_searched(self) -> None:
        cot = ChainOfThought(cue=hr.text("Let's think step by step."))
        result = self.find(strategy=cot)
        assert "carefully" in result.best.instruction
        assert result.best.program.ending == cot.ending
        assert self.find(strategy=SelfConsistency(cot, samples=3), steps=2).best.train.value == 1.0

    def test_targets_are_compared_in_the_form_of_the_answers(self) -> None:
        options = [Question(f"Pick {k}", "right" if k % 2 else "(B)", ("wrong", "right")) for k in range(20)]
        choose = lambda p, c: "The answer is (B)." if "carefully" in p else "The answer is (A)."
        result = optimize_prompt(options, scorer=scripted(choose), optimizer=scripted(writing), steps=3)
        assert result.initial.train.value == 0.0
        assert result.best.held_out.value == 1.0
        words = [Question(f"Say {k}", "Blue Sky") for k in range(20)]
        result = optimize_prompt(
            words, scorer=scripted(lambda p, c: "The answer is blue sky."), optimizer=scripted(writing), steps=1
        )
        assert result.initial.train.value == 1.0

    def test_parts_may_be_given(self) -> None:
        parts = Parts(tuple(QUESTIONS[:5]), (), ())
        result = optimize_prompt(parts, scorer=scripted(answering), optimizer=scripted(writing), steps=1)
        assert result.best.validation is None
        assert result.best.held_out is None

    def test_intervals(self) -> None:
        assert Rate(0, 10).interval == pytest.approx((0.0, 0.2775), abs=1e-4)  # Wilson, by hand
        assert Rate(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
        assert Rate(10, 10).interval[1] == 1.0


class TestOfficialScoring:
    @pytest.mark.parametrize(
        ("text", "numeric", "found"),
        [
            ("The answer is 18.", True, "18"), ("The answer is $1,234.50", True, "1234"), ("so 3 + 4 = 7 apples", True, "7"), ("The answer is: eight", True, "8"),
            ("The answer is yes. Because", False, "yes"), ("(A) apple", False, "(a)"), ("x is the answer", False, "x"), ("18.6", True, "19"), ("2.5", True, "2"),
        ],
    )  # fmt: skip
    def test_predictions(self, text: str, numeric: bool, found: str) -> None:
        assert prediction(text, numeric) == found

    def test_a_gold_string_that_is_included_counts(self) -> None:
        assert matches("no", "i do not know", included=True)
        assert not matches("no", "i do not know")

    def test_multiple_choice(self) -> None:
        options = "Sun rises in the?\n(A) west\n(B) east\n(C) north east"
        for found in ("(b)", "b", "east"):
            assert matches("(B)", found, options), found
        assert not matches("(B)", "north east", options)
        assert not matches("(A)", "west or east", options)

    def test_as_verifier(self) -> None:
        result = optimize_prompt(PARTS, scorer=scripted(answering), optimizer=scripted(writing), steps=1, official=True)
        assert result.initial.train.value < 1.0
        assert OfficialScoring().right(Question("q", "18"), "18", "The answer is 18.4")
        assert OfficialScoring().right(Question("q", "Yes"), "Yes", "well yes")


class TestProblems:
    def test_regression_is_that_of_the_paper(self) -> None:
        problem = LinearRegression()
        assert problem.evaluate(Line(15, 14)) == pytest.approx(problem.true_value)
        assert problem.optimum <= problem.true_value
        every = min(problem.evaluate(Line(w, b)) for w in range(10, 21) for b in range(-10, 40))
        assert problem.optimum == pytest.approx(every)
        assert 1 <= len(problem.starts) <= 5
        assert all(10 <= s.w <= 20 and 10 <= s.b <= 20 for s in problem.starts)

    def test_a_model_that_reads_the_best_pair_descends(self) -> None:
        def descend(prompt: str, config: GenerateConfig) -> str:
            w, b = map(int, re.findall(r"w=(-?\d+), b=(-?\d+)", prompt)[-1])
            k = config.seed or 0
            return f"[{w + k % 3 - 1}, {b + k // 3 % 3 - 1}]"

        problem = LinearRegression()
        algorithm = OPRO(problem.meta_prompt, starts=0, steps=60).using(scripted(descend))
        results = drive(algorithm, problem.program, problem.evaluate, trials=400, starts=problem.starts)
        assert -max(r.score or -1e9 for r in results) == pytest.approx(problem.optimum)

    def test_the_optimum_of_tours(self) -> None:
        from itertools import permutations

        problem = TravellingSalesman(7, seed=2)
        brute = min(problem.evaluate(Tour(order)) for order in permutations(range(1, 7)))
        assert problem.optimum == pytest.approx(brute)
        for tour in (problem.nearest_neighbour(), problem.farthest_insertion(), *problem.starts):
            assert sorted(tour.order) == list(range(1, 7))
            assert problem.evaluate(tour) >= brute - 1e-9
        with pytest.raises(ValueError, match="n must be <= 12"):
            _ = TravellingSalesman(13).optimum

    def test_tours_that_are_none_are_counted(self) -> None:
        problem = TravellingSalesman(5)
        replies = iter(
            ["<trace>0,1,2,3,4</trace>", "<trace>0,1,1,3,4</trace>", "nothing", "<trace>0,4,3,2,1</trace>"] * 50
        )
        algorithm = OPRO(problem.meta_prompt, starts=0, per_step=4, steps=3).using(scripted(lambda p, c: next(replies)))
        results = drive(algorithm, problem.program, problem.evaluate, trials=50, starts=problem.starts)
        run = algorithm.latest
        assert run is not None
        assert run.refused["outside"] == 3
        assert run.refused["unparsed"] == 3
        assert len(results) <= len(problem.starts) + 2

    def test_hill_climbing_runs_on_the_same_problems(self) -> None:
        problem = TravellingSalesman(8)
        results = drive(hr.HillClimbing(), problem.program, problem.evaluate, trials=200, starts=problem.starts)
        assert len(results) == 200
        assert -max(r.score or -1e9 for r in results) <= problem.evaluate(problem.starts[0])


class TestText:
    def test_genomes_hold_any_text(self) -> None:
        space = hr.Space(Instructed(hr.text("a", "b")))
        for text in ("", "é 漢 🙂", "x" * 500, "line\nbreak"):
            genome = space.encode(Instructed(text))
            assert space.contains(genome)
            assert space.decode(tuple(json.loads(json.dumps(genome)))).instruction == text
        assert space.size == float("inf")
        assert space.chosen(space.default()) == {"instruction": "a"}
        with pytest.raises(ValueError, match="not in this space"):
            space.encode(Instructed("x" * 501))

    def test_other_algorithms_choose_among_the_initial_texts_or_say_they_cannot(self) -> None:
        program = Instructed(hr.text("a", "bb"))
        study = hr.discover(program, lengths, algorithm=hr.RandomSearch(), trials=5, progress=False)
        assert {t.values["value"] for t in study.trials} == {1.0, 2.0}
        assert study.stopped == "exhausted"
        with pytest.raises(TypeError, match=r"hr\.lm\.OPRO"):
            hr.discover(program, lengths, trials=5, progress=False)

    def test_it_must_fit_its_field(self) -> None:
        with pytest.raises(ValueError, match="labels"):
            Instructed("a", labels=hr.text("yes"))
        with pytest.raises(ValueError, match="at most longest=3"):
            hr.text("long", longest=3)
        with pytest.raises(ValueError, match="different"):
            hr.text("a", "a")

    def test_studies_with_texts_are_stored_and_reported(self, tmp_path: Path) -> None:
        store = f"sqlite:///{tmp_path}/s.db"
        algorithm = OPRO(published(threshold=0.0), steps=2).using(scripted(writing))
        hr.discover(SPACE.program, lengths, algorithm=algorithm, trials=8, store=store, name="s", progress=False)
        study = hr.open_study(store, "s", trust=("heuretic",))
        assert study.best is not None
        assert "quickly" in study.decode(study.trials[1]).instruction + study.decode(study.trials[2]).instruction
        assert study.report(tmp_path / "r.html").exists()


class TestCommand:
    @pytest.fixture
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        file = tmp_path / "sums.jsonl"
        file.write_text("".join(json.dumps({"question": q.text, "answer": q.target}) + "\n" for q in QUESTIONS))
        self.asked: list[str] = []
        cache = ReplyCache(tmp_path / "replies.db")
        monkeypatch.setattr(
            "heuretic.lm.model", lambda name, **_: scripted(both, self.asked, cache=cache, price=Price(1.0, 1.0))
        )
        monkeypatch.chdir(tmp_path)
        return file

    def invoke(self, *arguments: Any) -> Any:
        return CliRunner().invoke(app, ["optimize-prompt", *map(str, arguments), "--model", "scripted"])

    def test_prints_the_best_with_all_accuracies(self, data: Path) -> None:
        result = self.invoke(data, "--steps", 3, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert "carefully" in found["best"]["instruction"]
        assert found["best"]["held_out"]["accuracy"] == 1.0
        assert found["initial"]["held_out"]["questions"] == 24
        assert found["usage"]["calls"] == len(self.asked)
        plain = self.invoke(data, "--steps", 3)
        assert plain.exit_code == 0
        assert "100.0%" in plain.stdout
        assert "(best)" in " ".join(plain.stdout.split())
        assert found["usage"]["calls"] == len(self.asked)  # the second time everything was known

    def test_a_dry_run_asks_nothing(self, data: Path) -> None:
        plan = json.loads(self.invoke(data, "--steps", 3, "--dry-run", "--json").stdout)
        assert not self.asked
        real = json.loads(self.invoke(data, "--steps", 3, "--json").stdout)
        assert plan["evaluations"] >= real["evaluations"]
        assert plan["most"]["input_tokens"] >= real["usage"]["input_tokens"]
        assert plan["most_cost"] >= real["cost"] > 0

    def test_a_budget_stops_it_and_a_larger_one_goes_on(self, data: Path) -> None:
        first = self.invoke(data, "--steps", 6, "--max-tokens", 8, "--budget", "9000 tokens", "--json")
        assert first.exit_code == 0, first.output
        small = json.loads(first.stdout)
        assert small["stopped"].startswith("budget")
        assert small["usage"]["input_tokens"] + small["usage"]["output_tokens"] <= 9000
        large = json.loads(self.invoke(data, "--steps", 6, "--max-tokens", 8, "--budget", "$5", "--json").stdout)
        assert large["evaluations"] > small["evaluations"]
        other = json.loads(self.invoke(data, "--steps", 6, "--max-tokens", 8, "--name", "other", "--json").stdout)
        assert {k: large[k] for k in ("best", "evaluations", "refused", "steps")} == {
            k: other[k] for k in ("best", "evaluations", "refused", "steps")
        }

    def test_ctrl_c_keeps_everything_and_the_same_command_goes_on(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        whole = json.loads(self.invoke(data, "--steps", 3, "--name", "whole", "--json").stdout)
        asked: list[str] = []

        def press(prompt: str, config: GenerateConfig) -> str:
            if len(asked) == 60:
                os.kill(os.getpid(), signal.SIGINT)
            return both(prompt, config)

        cache = ReplyCache(tmp_path / "others.db")
        monkeypatch.setattr(
            "heuretic.lm.model", lambda name, **_: scripted(press, asked, cache=cache, price=Price(1.0, 1.0))
        )
        stopped = self.invoke(data, "--steps", 3, "--name", "stopped", "--json")
        assert stopped.exit_code == 130
        part = json.loads(stopped.stdout)
        assert 0 < part["evaluations"] < whole["evaluations"]
        assert part["best"]["train"]["accuracy"] > 0
        again = json.loads(self.invoke(data, "--steps", 3, "--name", "stopped", "--json").stdout)
        ignored = ("study",)
        assert {k: v for k, v in again.items() if k not in ignored} == {
            k: v for k, v in whole.items() if k not in ignored
        }
        assert len(asked) == whole["usage"]["calls"]  # nothing twice

    @pytest.mark.parametrize("budget", ["much", "-3 tokens", "0 tokens", "$0"])
    def test_a_bad_budget_is_one_line(self, data: Path, budget: str) -> None:
        result = self.invoke(data, f"--budget={budget}")
        assert result.exit_code != 0
        assert "budget" in str(result.exception)

    def test_a_missing_file_is_one_line(self, data: Path) -> None:
        result = self.invoke("nothing.jsonl")
        assert result.exit_code != 0
        assert "nothing.jsonl" in str(result.exception)

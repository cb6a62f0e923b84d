"""The evaluations as tasks of inspect-ai: `inspect eval heuretic/bbeh --model openai/gpt-4o-mini --limit 20`.

Settings of an evaluation are arguments of its task (`-T mini=true`), and so are `strategy`, an address, and `size`, how many
questions evenly from all categories. The judge is the model of the role grader (`--model-role grader=openai/gpt-4o`).

The provider of local weights is registered here too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ContentText, Model, get_model
from inspect_ai.scorer import Metric, SampleScore, Scorer, Target, metric, scorer
from inspect_ai.scorer import Score as InspectScore
from inspect_ai.solver import Generate, Solver, TaskState, solver

import heuretic.lm.local.provider  # noqa: F401  (registers it)
from heuretic.evals.addresses import EVALUATIONS
from heuretic.evals.evaluation import Evaluation, Score
from heuretic.evals.results import Results
from heuretic.evals.running import MISSING, chosen, searching
from heuretic.lm import Answer, LanguageModel, Question, Reply
from heuretic.lm.answer import Sample as Attempt
from heuretic.lm.model import known_price
from heuretic.lm.parsing import Whole
from heuretic.lm.retrieval.addresses import SEARCHES
from heuretic.lm.solver import output_of, question_of
from heuretic.lm.strategies.addresses import strategy_at
from heuretic.lm.strategies.prompting import attempt


def _task(address: str, strategy: str | None, size: int | None, search: str | None) -> Task:
    evaluation = EVALUATIONS.at(address)
    questions = evaluation.load()
    samples = [
        Sample(
            input=[ChatMessageUser(content=[*q.parts, ContentText(text=q.text)])] if q.parts else q.text,
            target=list(q.target) if isinstance(q.target, tuple) else q.target or "",
            choices=list(q.choices) or None, id=q.id, metadata=dict(q.about),
        )
        for q in chosen(evaluation, questions, size)
    ]  # fmt: skip
    return Task(
        dataset=MemoryDataset(samples, name=evaluation.name), solver=_asked(address, strategy, search), scorer=_scored(address, strategy, search),
        metadata={"checksums": dict(questions.checksums), "notes": list(questions.notes)},
    )  # fmt: skip


@solver(name="heuretic_asked")
def _asked(address: str, strategy: str | None = None, search: str | None = None) -> Solver:
    evaluation, found = EVALUATIONS.at(address), None if search is None else SEARCHES.at(search)
    how = evaluation.strategy() if strategy is None else evaluation.fitted(strategy_at(strategy, found))
    models = _Models()

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        question = question_of(state)
        if evaluation.missing(question):
            answer = Answer(None, "error", 0.0, (), ())
        else:
            answer = await how(question, models.of(get_model()))
        text = next((each.text for each in answer.samples if each.answer == answer.answer), "")
        state.output = output_of(answer, state)
        state.output.choices[0].message = ChatMessageAssistant(content=text, source="generate")
        state.messages.append(state.output.message)
        state.metadata["answer"] = {"answer": answer.answer, "outcome": answer.outcome, "share": answer.share}
        return state

    return solve


@metric(name="summary")
def _summary(address: str) -> Metric:
    evaluation = EVALUATIONS.at(address)

    def summarised(scores: list[SampleScore]) -> dict[str, float]:
        found = evaluation.summary(_results(evaluation, scores))
        return {
            name + suffix: value
            for name, estimate in found.items()
            for suffix, value in (("", estimate.value), (" low", estimate.low), (" high", estimate.high))
            if value is not None
        }  # fmt: skip

    return summarised


def _results(evaluation: Evaluation, scores: list[SampleScore]) -> Results:
    import numpy as np

    rows = [(s.sample_metadata or {}, s.score) for s in scores]
    keys = [*evaluation.by, *([evaluation.within] if evaluation.within else [])]
    about = {key: [str(known.get(key, MISSING)) for known, _ in rows] for key in keys}
    names = dict.fromkeys(name for _, score in rows for name in (score.metadata or {}).get("metrics", {}))
    metrics = {
        name: np.array([(score.metadata or {}).get("metrics", {}).get(name, float("nan")) for _, score in rows], float)
        for name in names
    }
    return Results(
        [str(s.sample_id) for s in scores], np.array([score.as_float() for _, score in rows]),
        [(score.metadata or {}).get("outcome", "answered") for _, score in rows], about, metrics,
        about[evaluation.within] if evaluation.within else None,
    )  # fmt: skip


def _scored(address: str, strategy: str | None, search: str | None) -> Scorer:
    evaluation = EVALUATIONS.at(address)
    if search is not None:
        found = SEARCHES.at(search)
        evaluation = searching(evaluation, None if strategy is None else strategy_at(strategy, found), found)
    evaluation.check()

    @scorer(metrics=[_summary(address)], name=f"heuretic_{evaluation.name}")
    def made() -> Scorer:
        judges = _Models()

        async def judged(state: TaskState, target: Target) -> InspectScore:
            question = question_of(state)
            answer = _answer_of(evaluation, question, state)
            judge = judges.of(get_model(role="grader", required=True)) if evaluation.needs_judge else None
            why = evaluation.missing(question) or ("error" if answer.outcome == "error" else "")
            score = Score(None, reason=why) if why else await evaluation.score(question, answer, judge)
            value = float("nan") if score.value is None else score.value
            known = {
                "outcome": answer.outcome, "metrics": dict(score.metrics), "judge": judge and judge.name, **score.details,
            }  # fmt: skip
            return InspectScore(value=value, answer=answer.answer, explanation=score.reason or None, metadata=known)

        return judged

    return made()


def _answer_of(evaluation: Evaluation, question: Question, state: TaskState) -> Answer:
    """Return what our solver found, or what the evaluation's parser finds in the completion of another solver."""
    known, text = state.metadata.get("answer"), state.output.completion
    if isinstance(known, Mapping):
        found = Attempt(known["answer"], known["outcome"], text)
        return Answer(found.answer, found.outcome, known["share"], (found,), ())
    cut = state.output.stop_reason == "max_tokens"
    found = attempt(Reply(text, "truncated" if cut else "answered"), evaluation.parse() or Whole(), question)
    return Answer(found.answer, found.outcome, float(found.answer is not None), (found,), ())


class _Models:
    """Models of inspect-ai as ours, each once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Model, LanguageModel]] = {}

    def of(self, model: Model) -> LanguageModel:
        if id(model) not in self._known:  # kept beside the model, whose id then stays its own
            self._known[id(model)] = (model, LanguageModel(model, price=known_price(model)))
        return self._known[id(model)][1]


def _registered(name: str) -> Callable[..., Task]:
    def made(strategy: str | None = None, size: int | None = None, search: str | None = None, **settings: Any) -> Task:
        query = "&".join(f"{quote(key)}={quote(json.dumps(value))}" for key, value in settings.items())
        return _task(f"{name}?{query}" if query else name, strategy, size, search)

    made.__name__ = made.__qualname__ = name.replace("-", "_")
    return task(name=name)(made)


TASKS = {name: _registered(name) for name in EVALUATIONS.names()}
"""The task of each evaluation."""

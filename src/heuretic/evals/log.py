"""Logs of runs in the format of inspect-ai, so that its viewer shows them.

Its own recorder holds a summary of every sample in memory, and copies the whole file whenever it is flushed; this writer does
neither, so that 100,000 answers take no more memory than 100.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heuretic.data.files import sweep
from heuretic.evals.evaluation import Evaluation, Score
from heuretic.lm import Answer, Question
from heuretic.lm.answer import Step
from heuretic.symbolic import dumps

if TYPE_CHECKING:
    from heuretic.evals.results import Estimate
    from heuretic.evals.running import Run

MOST_CHARACTERS = 20_000
"""Longer texts are cut in the middle."""
_SUMMARY_CHARACTERS = 300
_SCHEMA = 2
_JSON = {"ensure_ascii": False, "separators": (",", ":"), "default": str}


class LogWriter:
    """Writes a run's answers as they come. Until the run ends, the file has another name, with `.part`.

    Args: folder: Made if it is not there. total: How many answers will come, None if nobody knows.
    """

    def __init__(
        self, folder: Path, evaluation: Evaluation, model: str, strategy: Any, judge: str | None, total: int | None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder.glob("*.eval.part"))  # what killed runs left; their replies are in the cache
        now = datetime.now(UTC).replace(microsecond=0)
        identity = secrets.token_hex(6)
        stamp, names = now.strftime("%Y-%m-%dT%H-%M-%S"), f"{evaluation.title}_{model}"
        self.path = folder / f"{stamp}_{re.sub(r'[^A-Za-z0-9.-]+', '-', names)[:100]}_{identity}.eval"
        self._part = self.path.with_suffix(".eval.part")
        self._zip = zipfile.ZipFile(self._part, "w", zipfile.ZIP_DEFLATED, compresslevel=3)
        self._summaries = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed with the log)
        self._count = 0
        self._spec: dict[str, Any] = {
            "eval_id": identity, "run_id": identity, "task_id": identity, "created": now.isoformat(),
            "task": f"heuretic/{evaluation.title}", "task_version": 0, "task_args": {}, "model": model, "model_args": {},
            "dataset": {"name": evaluation.title, "samples": total}, "config": {},
            "packages": {"inspect_ai": version("inspect_ai"), "heuretic": version("heuretic")},
            "metadata": {"evaluation": json.loads(dumps(evaluation)), "strategy": _written(strategy), "judge": judge},
        }  # fmt: skip
        if judge is not None:
            self._spec["model_roles"] = {"grader": {"model": judge}}
        self._put("_journal/start.json", {"version": _SCHEMA, "eval": self._spec, "plan": {}})

    def add(self, question: Question, answer: Answer, score: Score, seconds: float) -> None:
        """Write one answer with its score."""
        sample, summary = _sample(self._spec["model"], question, answer, score, seconds)
        self._put(f"samples/{question.id}_epoch_1.json", sample)
        self._summaries.write(("," if self._count else "") + json.dumps(summary, **_JSON) + "\n")
        self._count += 1

    def close(self, run: Run) -> Path:
        """Write the numbers of the run and give the file its name; return its path."""
        self._summaries.seek(0)
        with self._zip.open("summaries.json", "w") as file:
            file.write(b"[")
            for line in self._summaries:
                file.write(line.encode())
            file.write(b"]")
        self._summaries.close()
        self._put("header.json", _header(self._spec, run))
        self._zip.close()
        os.replace(self._part, self.path)
        return self.path

    def abandon(self) -> None:
        """Remove what was written."""
        self._summaries.close()
        self._zip.close()
        self._part.unlink(missing_ok=True)

    def _put(self, name: str, value: Any) -> None:
        self._zip.writestr(name, json.dumps(value, **_JSON))


def record(run: Run) -> dict[str, Any]:
    """Return all numbers of a run as JSON has them."""
    return {
        "evaluation": run.evaluation.title, "model": run.model, "judge": run.judge, "strategy": _written(run.strategy),
        "settings": json.loads(dumps(run.evaluation)), "within": run.evaluation.within, "questions": run.questions, "of": run.total,
        "summary": {name: _estimate(each) for name, each in run.summary.items()},
        "groups": {key: {name: _estimate(each) for name, each in found.items()} for key, found in run.groups.items()},
        "outcomes": dict(run.outcomes), "unscored": dict(run.unscored), "bounds": list(run.bounds),
        "chance": run.chance, "constant": run.constant, "references": dict(run.evaluation.references),
        "spent": asdict(run.spent), "judge_spent": asdict(run.judge_spent), "energy": dict(run.energy),
        "seconds": run.seconds, "started": run.started, "checksums": dict(run.checksums), "notes": list(run.notes),
        "stopped": run.stopped, "log": None if run.log is None else str(run.log),
    }  # fmt: skip


def _estimate(found: Estimate) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in asdict(found).items()}


def _written(strategy: Any) -> Any:
    try:
        return json.loads(dumps(strategy))
    except (TypeError, ValueError):
        return repr(strategy)


def _header(spec: Mapping[str, Any], run: Run) -> dict[str, Any]:
    metrics = {
        name + suffix: {"name": name + suffix, "value": value}
        for name, found in run.summary.items()
        for suffix, value in (("", found.value), (" low", found.low), (" high", found.high))
        if value is not None and value == value
    }
    usages = {run.model: _usage(run.spent.usage)}
    if run.judge is not None:
        usages[run.judge] = _usage(run.judge_spent.usage)
    unscored = sum(run.unscored.values())
    return {
        "version": _SCHEMA, "status": "cancelled" if run.stopped else "success", "eval": spec, "plan": {},
        "results": {
            "total_samples": spec["dataset"]["samples"] or run.questions, "completed_samples": run.questions,
            "scores": [{
                "name": run.evaluation.title, "scorer": run.evaluation.title, "params": {}, "metrics": metrics,
                "scored_samples": run.questions - unscored, "unscored_samples": unscored,
            }],
            "metadata": record(run),
        },
        "stats": {
            "started_at": _time(run.started), "completed_at": _time(run.started + run.seconds), "model_usage": usages,
        },
    }  # fmt: skip


def _sample(
    model: str, question: Question, answer: Answer, score: Score, seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a sample as inspect-ai writes it, and its summary."""
    about = {key: value for key, value in question.about.items() if isinstance(value, str | int | float | bool)}
    given = {
        "value": float("nan") if score.value is None else score.value, "answer": answer.answer, "explanation": score.reason or None,
        "metadata": {"outcome": answer.outcome, **{name: float(v) for name, v in score.metrics.items()}},
    }  # fmt: skip
    target: Any = list(question.target) if isinstance(question.target, tuple) else question.target or ""
    usage = {model: _usage(answer.usage)}
    said = next((sample.text for sample in answer.samples if sample.answer == answer.answer), "")
    output = {
        "model": model, "usage": usage[model],
        "choices": [{"message": {"role": "assistant", "content": _cut(said), "source": "generate"}, "stop_reason": "stop"}],
    }  # fmt: skip
    shared = {
        "id": question.id, "epoch": 1, "target": target, "metadata": about, "model_usage": usage,
        "choices": list(question.choices) or None, "total_time": round(seconds, 3),
    }  # fmt: skip
    full = {**given, "metadata": {**given["metadata"], **score.details, "judge": _steps(score.steps)}}
    sample = {
        **shared, "input": _cut(question.text), "messages": _messages(answer.trace), "output": output, "store": {}, "events": [],
        "attachments": {}, "scores": {"score": full}, "metadata": {**about, "share": answer.share},
    }  # fmt: skip
    summary = {
        **shared, "input": question.text[:_SUMMARY_CHARACTERS], "scores": {"score": given}, "completed": True,
    }  # fmt: skip
    return sample, summary


def _messages(trace: Sequence[Step], most: int = 50) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for step in trace[:most]:
        messages.append({"role": "user", "content": _cut(step.prompt)})
        for reply in step.replies[:most]:
            text = reply.text or f"({reply.outcome}{f': {reply.error}' if reply.error else ''})"
            messages.append({"role": "assistant", "content": _cut(text), "source": "generate"})
    return messages


def _steps(steps: Iterable[Step]) -> list[dict[str, Any]]:
    return [
        {"name": step.name, "prompt": _cut(step.prompt), "replies": [_cut(reply.text) for reply in step.replies]}
        for step in steps
    ]


def _usage(usage: Any) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "total_tokens": usage.tokens,
        "input_tokens_cache_read": usage.cached_input_tokens,
    }  # fmt: skip


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

"""All text evaluations on models that run here, beside random choice and a constant answer, as the table in docs/evaluations.md.

    HEURETIC_DATA=... OMP_NUM_THREADS=1 python benchmarks/evaluation_table.py --model heuretic/smollm2-135m --json OUT [--quick]
    python benchmarks/evaluation_table.py --table benchmarks/results/evaluations_smollm2-135m.json benchmarks/results/evaluations_gemma3-270m.json

Questions are few, replies are short and prompts of long-context tasks are the shortest there are, so that a model of 135 million
parameters is through in minutes on one core. FreshQA and GradingBench are not among them, as their files are not at hand; nor are
LongFact and ProofBench, whose judge would have to be a far stronger model than these.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

EVALUATIONS: tuple[tuple[str, str, str | None, int], ...] = (
    ("MMLU, likelihoods", "mmlu", "likeliest", 114),
    ("MMLU, chain of thought", "mmlu?max_tokens=96", None, 57),
    ("AQuA", "aqua?max_tokens=128", None, 40),
    ("GSM8K", "gsm8k?max_tokens=128", None, 40),
    ("MultiArith", "multiarith?max_tokens=128", None, 40),
    ("BBH, answers only", "bbh?reasoning=false", None, 81),
    ("BBH, chain of thought", "bbh?max_tokens=128", None, 54),
    ("BBEH", "bbeh?max_tokens=96", None, 46),
    ("IMO-AnswerBench, sympy", "imo-answer-bench?max_tokens=128", None, 24),
    ("Latent list, 1K tokens", "latent-list?lengths=[1024]&each=30&max_tokens=48", None, 30),
    ("MRCR, 2K tokens", "mrcr?lengths=[2048]&each=10&max_tokens=160", None, 10),
    ("IDK, 1K tokens", "idk?lengths=[1024]&each=30&max_tokens=48", None, 30),
    ("Inverse scaling, our tasks", "inverse-scaling", None, 200),
    ("Sycophancy, wrong sums", "sycophancy", None, 120),
)


def measured(model: str, quick: bool, only: str) -> list[dict[str, Any]]:
    """Return the records of all runs, with what each is called."""
    from heuretic.evals import evaluate
    from heuretic.evals.log import record
    from heuretic.lm import model as model_named

    asked = model_named(model, cache=None, threads=1)
    found = []
    for title, address, strategy, limit in EVALUATIONS:
        if only not in title:
            continue
        began = time.process_time()
        run = evaluate(address, asked, strategy=strategy, limit=min(limit, 4) if quick else limit)
        told = record(run)
        told["groups"] = {key: groups for key, groups in told["groups"].items() if len(groups) <= 30}
        found.append({"title": title, "address": address, "limit": limit, "cpu_s": time.process_time() - began, **told})
        print(title, run.score, run.chance, run.constant, dict(run.outcomes), f"{run.seconds:.0f} s", flush=True)
    return found


def table(files: list[Path]) -> str:
    """Return a Markdown table of several files, one column of scores for each."""
    runs = [json.loads(file.read_text()) for file in files]
    names = [each["model"].rpartition("/")[2] for each in runs]
    lines = [
        "| evaluation | questions | " + " | ".join(names) + " | random | constant | tokens in / out | s |",
        "|---" * (len(names) + 6) + "|",
    ]
    for rows in zip(*(each["runs"] for each in runs), strict=True):
        scores = []
        for row in rows:
            first = row["summary"].get("micro average, %") or next(iter(row["summary"].values()))
            if "micro average, %" in row["summary"]:  # BBEH's, in the unit of the others
                first = {key: None if first[key] is None else first[key] / 100 for key in ("value", "low", "high")}
            scores.append(
                f"{first['value']:.3g} [{first['low']:.3g}, {first['high']:.3g}]"
                if first["low"] is not None
                else f"{first['value']:.3g}"
            )
        base = [("-" if rows[0][name] is None else f"{rows[0][name]:.3g}") for name in ("chance", "constant")]
        usage = [row["spent"]["usage"] for row in rows]
        tokens = "; ".join(f"{u['input_tokens'] + u['cached_input_tokens']:,} / {u['output_tokens']:,}" for u in usage)
        seconds = "; ".join(f"{row['seconds']:.0f}" for row in rows)
        lines.append(
            f"| {rows[0]['title']} | {rows[0]['questions']} | " + " | ".join([*scores, *base, tokens, seconds]) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="heuretic/smollm2-135m")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--table", type=Path, nargs="+")
    given = parser.parse_args()
    if given.table:
        print(table(given.table))
        return
    from heuretic.study.environment import environment_facts

    runs = measured(given.model, given.quick, given.only)
    if given.json:
        found = {"model": given.model, "environment": environment_facts(), "runs": runs}
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Local weights: tokens a second, alone and together, and agreement with transformers, all on one file of GGUF.

    OMP_NUM_THREADS=1 python benchmarks/local_models.py [--quick] [--json OUT] [--model NAME]

Contestants, each in a process of its own, on one thread, timed by CPU time so that other work on the machine does not count:

- heuretic: `hr.lm.model("heuretic/...")` asked 1, 16 and 64 questions at once, and 8 behind the same eight worked ones
  ("8 shots"; bfloat16, and float32);
- transformers: `generate` on the questions as one padded batch, weights unpacked to float32 (the reference) or bfloat16;
- llama.cpp, one by one: `Llama.create_completion` of llama-cpp-python, which has no batches;
- llama.cpp, together: its low-level interface with all questions as sequences of one batch.

Texts are greedy. Agreement: how many of the texts are the same as those of transformers in float32, how far the logits of the
first token are from its (largest and mean absolute difference), and in how many the most probable token is the same.
llama.cpp is run without its repacked weights if it dies with them, as it does on some processors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COUNTS = (1, 16, 64)
EXEMPLARS = "".join(
    f"Q: There are {k + 3} trees in the grove, and {2 * k + 5} more are planted today. Then {k + 1} of them are felled again. "
    f"How many trees are there in the end?\nA: There are {k + 3} trees at first. {2 * k + 5} more make {3 * k + 8}. Without the "
    f"{k + 1} that are felled, {2 * k + 7} are left. The answer is {2 * k + 7}.\n\n"
    for k in range(8)
)
"""Eight worked questions to put before the question, as one asks for a chain of thought."""
CONTESTANTS = (
    "transformers float32", "transformers bfloat16", "heuretic bfloat16", "heuretic float32", "llama.cpp one by one",
    "llama.cpp together",
)  # fmt: skip


def questions(count: int) -> list[str]:
    """Return different questions of a few kinds."""
    forms = (
        "What is {} plus {}?",
        "Write a story about {} cats and {} dogs.",
        "Name {} cities, and {} rivers.",
        "Is {} more than {}?",
    )
    return [forms[k % 4].format(k + 2, 3 * k + 1) for k in range(count)]


def as_prompt(question: str) -> str:
    """Return the prompt, the same text for all."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def timed(
    work: Callable[[list[str]], list[str]], count_tokens: Callable[[str], int], counts: tuple[int, ...]
) -> dict[str, Any]:
    """Return tokens a CPU second for so many questions at once, and the texts of the most."""
    work([as_prompt("Hello!")])
    cases = {str(n): [as_prompt(q) for q in (questions(n) if n > 1 else questions(2)[1:])] for n in counts}
    cases["8 shots"] = [as_prompt(EXEMPLARS + q) for q in questions(8)]
    speeds, texts = {}, {}
    for name, prompts in cases.items():
        began, clock = time.process_time(), time.perf_counter()
        texts[name] = work(prompts)
        spent, waited = time.process_time() - began, time.perf_counter() - clock
        tokens = sum(map(count_tokens, texts[name]))
        speeds[name] = {"tokens": tokens, "cpu_s": spent, "wall_s": waited, "tokens_per_cpu_s": tokens / spent}
    return {"speeds": speeds, "texts": texts}


def run_heuretic(path: Path, dtype: str, tokens: int) -> dict[str, Any]:
    """Measure ours."""
    from heuretic.lm import Sampling, model
    from heuretic.lm.local.decoder import Row, Segment
    from heuretic.lm.local.provider import LocalModel

    began = time.process_time()
    ours = model(f"heuretic/{path}", cache=None, dtype=dtype, threads=1)
    loading = time.process_time() - began
    api = ours.inspect.api
    assert isinstance(api, LocalModel)
    api.template = None  # the prompts are written out already

    def work(prompts: list[str]) -> list[str]:
        async def ask() -> list[str]:
            replies = await asyncio.gather(*(ours.sample(p, 1, Sampling(max_tokens=tokens)) for p in prompts))
            return [r[0].text for r in replies]

        return asyncio.run(ask())

    found = timed(work, lambda text: len(api.tokenizer.encode(text)), COUNTS)
    alone = [work([as_prompt(q)])[0] for q in questions(8)]
    found["same_alone_and_among_64"] = sum(a == b for a, b in zip(alone, found["texts"]["64"], strict=False)) / len(
        alone
    )
    first = []
    for question in questions(64):
        ids = api.tokenizer.encode(as_prompt(question))
        first.append(_step(api, Row(ids, 0, (), Segment(ids, (), 0), 0)))
    ids = api.tokenizer.encode(" ".join(questions(64)))[:512]
    began = time.process_time()
    _step(api, Row(ids, 0, (), Segment(ids, (), 0), 0))
    return {
        **found,
        "first": first,
        "loading_cpu_s": loading,
        "prompt_tokens_per_cpu_s": len(ids) / (time.process_time() - began),
    }


def _step(api: Any, row: Any) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return api.engine.decoder.step([row])[0].numpy()


def run_transformers(path: Path, dtype: str, tokens: int) -> dict[str, Any]:
    """Measure transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    began = time.process_time()
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer: Any = AutoTokenizer.from_pretrained(**where)
    tokenizer.padding_side = "left"
    theirs: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=getattr(torch, dtype)).eval()
    loading = time.process_time() - began

    def work(prompts: list[str]) -> list[str]:
        given = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        given.pop("token_type_ids", None)
        out = theirs.generate(**given, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        return tokenizer.batch_decode(out[:, given["input_ids"].shape[1] :], skip_special_tokens=True)

    with torch.inference_mode():
        found = timed(work, lambda text: len(tokenizer.encode(text)), COUNTS)
        first = []
        for question in questions(64):
            ids = tokenizer(as_prompt(question), return_tensors="pt", add_special_tokens=False)["input_ids"]
            first.append(theirs(ids, logits_to_keep=1).logits[0, -1].float().numpy())
        ids = tokenizer(" ".join(questions(64)), return_tensors="pt", add_special_tokens=False)["input_ids"][:, :512]
        began = time.process_time()
        theirs(ids, logits_to_keep=1)
    return {
        **found,
        "first": first,
        "loading_cpu_s": loading,
        "prompt_tokens_per_cpu_s": ids.shape[1] / (time.process_time() - began),
    }


def run_llama_high(path: Path, tokens: int, repacked: bool) -> dict[str, Any]:
    """Measure llama-cpp-python's completions."""
    from llama_cpp import Llama, llama_cpp

    defaults = llama_cpp.llama_model_default_params

    def settings() -> Any:  # Llama has no argument for it
        found = defaults()
        found.use_extra_bufts = repacked
        return found

    llama_cpp.llama_model_default_params = settings
    began = time.process_time()
    theirs = Llama(str(path), n_ctx=2048, n_batch=512, n_threads=1, n_threads_batch=1, verbose=False, logits_all=False)
    loading = time.process_time() - began

    def work(prompts: list[str]) -> list[str]:
        said: list[Any] = [theirs.create_completion(p, max_tokens=tokens, temperature=0.0) for p in prompts]
        return [s["choices"][0]["text"] for s in said]

    found = timed(work, lambda text: len(theirs.tokenize(text.encode(), add_bos=False, special=True)), COUNTS[:2])
    return {**found, "loading_cpu_s": loading, "repacked": repacked}


def run_llama_low(path: Path, tokens: int, repacked: bool) -> dict[str, Any]:
    """Measure llama.cpp with many sequences in a batch."""
    import llama_cpp as c

    @c.llama_log_callback
    def quiet(*_: Any) -> None:
        return

    c.llama_log_set(quiet, None)  # pyright: ignore
    began = time.process_time()
    c.llama_backend_init()
    settings = c.llama_model_default_params()
    settings.use_extra_bufts = repacked
    weights = c.llama_model_load_from_file(str(path).encode(), settings)
    wanted = c.llama_context_default_params()
    wanted.n_ctx, wanted.n_batch, wanted.n_ubatch, wanted.n_seq_max = 64 * 256, 512, 512, 64
    wanted.n_threads = wanted.n_threads_batch = 1
    wanted.kv_unified = True
    context = c.llama_init_from_model(weights, wanted)
    vocabulary = c.llama_model_get_vocab(weights)
    size = c.llama_vocab_n_tokens(vocabulary)
    memory = c.llama_get_memory(context)
    batch = c.llama_batch_init(512, 0, 1)
    loading = time.process_time() - began

    def encode(text: str) -> list[int]:
        room = (c.llama_token * 1024)()
        data = text.encode()
        return list(room[: c.llama_tokenize(vocabulary, data, len(data), room, 1024, False, True)])

    def decode(ids: list[int]) -> str:
        room = c.ctypes.create_string_buffer(65536)
        given = (c.llama_token * len(ids))(*ids)
        length = c.llama_detokenize(vocabulary, given, len(ids), room, 65536, False, False)
        return room.raw[:length].decode(errors="replace")

    def step(rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for k, (token, position, sequence, last) in enumerate(rows):
            batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = token, position, 1, last
            batch.seq_id[k][0] = sequence
        if c.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")

    def logits(k: int) -> np.ndarray:
        return np.ctypeslib.as_array(c.llama_get_logits_ith(context, k), (size,))

    def read(prompt: str, sequence: int) -> tuple[int, np.ndarray]:
        ids = encode(prompt)
        rows = [(t, p, sequence, p == len(ids) - 1) for p, t in enumerate(ids)]
        for first in range(0, len(rows), 512):
            step(rows[first : first + 512])
        return len(ids), logits((len(ids) - 1) % 512).copy()

    def work(prompts: list[str]) -> list[str]:
        c.llama_memory_clear(memory, True)
        live, out = {}, [[] for _ in prompts]
        for k, prompt in enumerate(prompts):
            length, first = read(prompt, k)
            live[k] = (int(first.argmax()), length)
        while live:
            for k in [k for k, (t, _) in live.items() if c.llama_vocab_is_eog(vocabulary, t) or len(out[k]) == tokens]:
                live.pop(k)
            for k, (token, _) in live.items():
                out[k].append(token)
            if live:
                order = list(live)
                step([(live[k][0], live[k][1], k, True) for k in order])
                live = {k: (int(logits(j).argmax()), live[k][1] + 1) for j, k in enumerate(order)}
        return [decode(ids) for ids in out]

    found = timed(work, lambda text: len(encode(text)), COUNTS)
    first = []
    for question in questions(64):
        c.llama_memory_clear(memory, True)
        first.append(read(as_prompt(question), 0)[1])
    ids = encode(" ".join(questions(64)))[:512]
    c.llama_memory_clear(memory, True)
    began = time.process_time()
    step([(t, p, 0, p == len(ids) - 1) for p, t in enumerate(ids)])
    return {
        **found, "first": first, "loading_cpu_s": loading, "repacked": repacked,
        "prompt_tokens_per_cpu_s": len(ids) / (time.process_time() - began),
    }  # fmt: skip


def run_one(name: str, path: Path, tokens: int, out: Path, repacked: bool) -> None:
    """Run a contestant, and write what it did."""
    kind, _, dtype = name.partition(" ")
    if kind == "heuretic":
        found = run_heuretic(path, dtype, tokens)
    elif kind == "transformers":
        found = run_transformers(path, dtype, tokens)
    elif name == "llama.cpp one by one":
        found = run_llama_high(path, tokens, repacked)
    else:
        found = run_llama_low(path, tokens, repacked)
    np.save(out.with_suffix(".npy"), np.array(found.pop("first", [])))
    out.write_text(json.dumps(found))


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="short texts")
    arguments.add_argument("--json", help="write the figures to this file")
    arguments.add_argument(
        "--model", default="smollm2-135m", help="a model that heuretic models knows, or a .gguf file"
    )
    arguments.add_argument("--contestant", help=argparse.SUPPRESS)
    arguments.add_argument("--out", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    tokens = 12 if given.quick else 48
    if given.contestant:
        repacked = os.environ.get("REPACKED", "1") == "1"
        run_one(given.contestant, Path(given.model), tokens, Path(given.out), repacked)
        return
    from heuretic.lm.weights import find_weights
    from heuretic.study.environment import environment_facts

    path = find_weights(given.model).path
    found: dict[str, Any] = {}
    first: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in CONTESTANTS:
            out = Path(folder, f"{len(found)}.json")
            for repacked in ("1", "0"):
                ran = subprocess.run(
                    [sys.executable, __file__, "--contestant", name, "--out", str(out), "--model", str(path)]
                    + ["--quick"] * given.quick,
                    env={**os.environ, "REPACKED": repacked, "OMP_NUM_THREADS": "1"},
                    capture_output=True,
                )
                if out.exists() or not name.startswith("llama.cpp"):
                    break
            if not out.exists():
                found[name] = {"failed": f"exit status {ran.returncode}: {ran.stderr.decode(errors='replace')[-200:]}"}
                continue
            found[name] = json.loads(out.read_text())
            first[name] = np.load(out.with_suffix(".npy"))
    reference = found["transformers float32"]
    print(
        f"{'':24} {'alone':>8} {'16':>8} {'64':>8} {'8 shots':>8} tokens/CPU s {'prompt':>8} {'loading':>8}  same texts, first logits: largest, mean, top"
    )
    for name, row in found.items():
        if "failed" in row:
            print(f"{name:24} {row['failed']}")
            continue
        speeds = [row["speeds"].get(n, {}).get("tokens_per_cpu_s") for n in (*map(str, COUNTS), "8 shots")]
        texts = row.pop("texts")
        if row is reference:
            reference_texts = texts
        pairs = [(a, b) for case in texts for a, b in zip(texts[case], reference_texts[case], strict=True)]
        row["same_texts"] = sum(a == b for a, b in pairs) / len(pairs)
        row["times_transformers"] = {
            n: s["tokens_per_cpu_s"] / reference["speeds"][n]["tokens_per_cpu_s"] for n, s in row["speeds"].items()
        }
        agreement = ""
        if len(first[name]):
            difference = np.abs(first[name] - first["transformers float32"])
            same = first[name].argmax(1) == first["transformers float32"].argmax(1)
            row["first_logits"] = {
                "largest": float(difference.max()),
                "mean": float(difference.mean()),
                "same_top": float(same.mean()),
            }
            agreement = f"{difference.max():.3f} {difference.mean():.4f} {same.mean():.0%}"
        shown = " ".join(f"{s:8.1f}" if s else f"{'-':>8}" for s in speeds)
        print(
            f"{name:24} {shown}              {row.get('prompt_tokens_per_cpu_s', float('nan')):8.0f} {row['loading_cpu_s']:6.1f} s  "
            f"{row['same_texts']:.0%}, {agreement}"
        )
        if "same_alone_and_among_64" in row:
            print(f"{'':24} the same text alone and among 64: {row['same_alone_and_among_64']:.0%}")
    if given.json:
        record = {
            "model": given.model,
            "tokens": tokens,
            "threads": 1,
            "contestants": found,
            "load": os.getloadavg(),
            "facts": environment_facts(),
        }
        Path(given.json).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

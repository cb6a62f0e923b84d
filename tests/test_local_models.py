"""Local weights: agreement with transformers, requests that share steps and prompts, draws, limits, and broken files."""

import asyncio
import math
import struct
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model

from heuretic.lm import LanguageModel, ModelError, Sampling, model
from heuretic.lm.local.chat import written_out
from heuretic.lm.local.draws import Draw, pick
from heuretic.lm.local.provider import LocalModel
from heuretic.lm.thinking import said_and_thought, said_from

T = TypeVar("T")
WORDS = [f"w{k}" for k in range(90)]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def text(*numbers: int) -> str:
    return " ".join(f"w{k}" for k in numbers)


def make_folder(folder: Path, kind: str, context: int = 128) -> Path:
    """Write a small model with random weights, and a tokenizer of words, as Hugging Face does."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: k for k, word in enumerate(["<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)
    shape: dict[str, Any] = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": context, "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip
    configs = {
        "llama": lambda: t.LlamaConfig(**shape),
        "starcoder2": lambda: t.Starcoder2Config(**shape, sliding_window=8),
        "gemma3": lambda: t.Gemma3TextConfig(**shape, head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
        "gemma2": lambda: t.Gemma2Config(**shape, head_dim=8),
        "gpt2": lambda: t.GPT2Config(vocab_size=len(words), n_embd=32, n_layer=2, n_head=4, n_positions=context, eos_token_id=0, bos_token_id=0),
    }  # fmt: skip
    torch.manual_seed(0)
    made: Any = t.AutoModelForCausalLM.from_config(configs[kind]())
    with torch.no_grad():  # far from uniform, so that greedy texts say something
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def small(folder: Path) -> LanguageModel:
    return model(f"heuretic/{folder}", cache=None, dtype="float32", threads=1, slots=6)


def engine_of(m: LanguageModel) -> Any:
    assert isinstance(m.inspect.api, LocalModel)
    return m.inspect.api.engine


def test_attention_that_is_not_computed_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must have plain attention, got gemma2"):
        model(f"heuretic/{make_folder(tmp_path, 'gemma2')}", cache=None)


@pytest.mark.parametrize("kind", ["llama", "starcoder2", "gemma3", "gpt2"])
def test_texts_and_logprobs_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    import transformers as t

    make_folder(tmp_path, kind)
    theirs: Any = t.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer: Any = t.AutoTokenizer.from_pretrained(tmp_path)
    ours = model(f"heuretic/{tmp_path}", cache=None, dtype="float32", threads=1, slots=4)
    shared = list(range(40))  # all prompts begin so: longer than the sliding window, and long enough to be shared
    prompts = [text(*shared, *range(50, 50 + k)) for k in range(1, 8)]

    async def ask() -> list[Any]:
        return await asyncio.gather(*(ours.sample(p, 1, Sampling(max_tokens=12, logprobs=True)) for p in prompts))

    replies = [r[0] for r in run(ask())]
    assert sum(r.usage.cached_input_tokens for r in replies) >= 40 * 5
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True
        )  # fmt: skip
        new = out.sequences[0, ids.shape[1] :]
        assert reply.text == tokenizer.decode(new, skip_special_tokens=True)
        kept = [step[0].log_softmax(-1)[t].item() for step, t in zip(out.logits, new, strict=True) if t != 0]
        assert reply.logprob == pytest.approx(math.fsum(kept), abs=1e-3)


def test_a_sample_does_not_depend_on_what_is_computed_beside_it(small: LanguageModel) -> None:
    drawn = Sampling(temperature=1.0, max_tokens=15, seed=3)
    prompt = text(*range(60))

    async def alone() -> list[str]:
        return [(await small.sample(prompt, 1, drawn, first=k))[0].text for k in range(10)]

    async def together() -> list[str]:
        other = [small.sample(text(k, 9), 3, Sampling(temperature=0.7, max_tokens=9)) for k in range(5)]
        replies, *_ = await asyncio.gather(small.sample(prompt, 10, drawn), *other)
        return [r.text for r in replies]

    found = run(alone())
    assert len(set(found)) > 5
    assert run(together()) == found


def test_an_empty_prompt_is_continued_from_the_beginning(small: LanguageModel) -> None:
    assert run(small.sample("", 1, Sampling(max_tokens=3)))[0].usage.input_tokens == 1


def test_choices_pay_for_their_prompt_once(small: LanguageModel) -> None:
    replies = run(small.sample(text(*range(30, 60)), 20, Sampling(temperature=1.0, max_tokens=4)))
    assert sum(r.usage.input_tokens + r.usage.cached_input_tokens for r in replies) == 30
    assert sum(r.usage.calls for r in replies) == 1


def test_requests_share_steps(small: LanguageModel) -> None:
    async def ask() -> None:
        await asyncio.gather(*(small.sample(text(k), 1, Sampling(max_tokens=20)) for k in range(6)))

    before = engine_of(small).steps
    run(ask())
    assert engine_of(small).steps - before < 60  # one after the other takes 120


def test_a_stop_text_ends_a_sample_and_is_no_part_of_it(small: LanguageModel) -> None:
    whole = run(small.sample(text(1, 2), 1, Sampling(max_tokens=12)))[0]
    words = whole.text.split()
    end = f"{words[5]} {words[6]}"
    cut = run(small.sample(text(1, 2), 1, Sampling(max_tokens=12, stop=("never", end))))[0]
    assert cut.outcome == "answered"
    assert cut.text == whole.text[: whole.text.find(end)]
    assert cut.usage.output_tokens < 12
    assert whole.outcome == "truncated"


def test_a_stop_text_in_reasoning_that_the_prompt_began_ends_nothing(small: LanguageModel) -> None:
    prompt = f"{text(1, 2)} <think>"
    thought = run(small.sample(prompt, 1, Sampling(max_tokens=12)))[0]
    assert (thought.text, thought.outcome) == ("", "truncated")
    words = thought.reasoning.split()
    again = run(small.sample(prompt, 1, Sampling(max_tokens=12, stop=(f"{words[5]} {words[6]}",))))[0]
    assert again == thought


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("a b", 0), ("<think>a", None), ("<thinking>a", None), ("a</think>b", 9), ("<reasoning>a</reasoning>b", 24),
        ("<think>a</think>b<think>c", None), ("a <think>b</think>c</think>", 27),
    ],
)  # fmt: skip
def test_where_reasoning_ends(written: str, place: int | None) -> None:
    assert said_from(written) == place


@pytest.mark.parametrize(
    ("written", "said", "thoughts", "open_ended"),
    [
        ("5", "5", [], False), ("<think>a</think>\n5", "5", ["a"], False), ("a</thinking>\n5", "5", ["a"], False),
        ("5 <thinking>a</thinking>", "5 ", ["a"], False), ("5 <reasoning>a", "5 ", ["a"], True), ("2 < 3", "2 < 3", [], False),
        ("a</think>5 <think>b</think>6", "5 6", ["a", "b"], False),
    ],
)  # fmt: skip
def test_reasoning_is_no_part_of_what_is_said(written: str, said: str, thoughts: list[str], open_ended: bool) -> None:
    assert said_and_thought(written) == (said, thoughts, open_ended)


def test_a_program_may_end_while_a_model_writes(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, "llama", context=8192)
    script = f"""
import asyncio, time
from heuretic.lm import Sampling, model
from heuretic.lm.waiting import _loop
asked = model("heuretic/{folder}", cache=None)
asyncio.run_coroutine_threadsafe(asked.sample("w1 w2", 4, Sampling(max_tokens=8000, temperature=1.0)), _loop())
while asked.inspect.api.engine.steps < 5:
    time.sleep(0.01)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_cancelled_request_frees_its_slots(small: LanguageModel) -> None:
    async def ask() -> None:
        task = asyncio.ensure_future(small.sample(text(3), 6, Sampling(max_tokens=120, temperature=1.0)))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await small.sample(text(4), 1, Sampling(max_tokens=2))

    run(ask())
    engine = engine_of(small)
    assert not engine._live
    assert not engine._ready


def test_logprobs_come_with_the_likeliest_tokens(folder: Path) -> None:
    m = get_model(f"heuretic/{folder}", dtype="float32", threads=1, memoize=False)
    out = run(m.generate(text(5, 6), config=GenerateConfig(max_tokens=5, temperature=0, logprobs=True, top_logprobs=3)))
    logprobs = out.choices[0].logprobs
    assert logprobs is not None
    for token in logprobs.content:
        assert token.top_logprobs is not None
        assert [t.logprob for t in token.top_logprobs] == sorted((t.logprob for t in token.top_logprobs), reverse=True)
        assert token.top_logprobs[0].token == token.token
        assert token.logprob <= 0
    assert isinstance(m.api, LocalModel)
    scores = run(m.api.logprobs_of(text(5, 6), [" " + out.completion]))
    assert scores[0] == pytest.approx(sum(t.logprob for t in logprobs.content), abs=1e-3)
    every = run(m.api.logprobs_of(text(5, 6), [f" {word}" for word in ("<eos>", "<unk>", *WORDS)]))
    assert sum(map(math.exp, every)) == pytest.approx(1, abs=1e-4)


def test_a_prompt_longer_than_the_context_is_an_error_or_cut(folder: Path) -> None:
    long = [ChatMessageUser(content=text(*[k % 90 for k in range(200)]))]

    def reply(overflow: str) -> Any:
        m = model(f"heuretic/{folder}", cache=None, threads=1, overflow=overflow)
        return run(m.sample(long, 1, Sampling(max_tokens=8)))[0]

    failed = reply("error")
    assert failed.outcome == "overflow"
    assert "128" in failed.error
    assert "200" in failed.error
    cut = reply("cut-middle")
    assert cut.usage.input_tokens == 120
    assert cut.text
    messages = [ChatMessageSystem(content=text(1)), ChatMessageUser(content=text(*range(90)))]
    messages += [ChatMessageAssistant(content=text(2)), ChatMessageUser(content=text(*range(60)))]
    dropping = model(f"heuretic/{folder}", cache=None, threads=1, overflow="drop-oldest")
    assert run(dropping.sample(messages, 1, Sampling(max_tokens=8)))[0].usage.input_tokens == 62


def test_a_text_that_reaches_the_context_is_cut_off(folder: Path) -> None:
    m = model(f"heuretic/{folder}", cache=None, threads=1)
    reply = run(m.sample(text(*range(80)), 1, Sampling(max_tokens=500, temperature=1.0)))[0]
    assert reply.outcome == "truncated"
    assert reply.usage.output_tokens == 48


def test_many_questions_are_answered_with_few_slots(small: LanguageModel) -> None:
    async def ask() -> int:
        asked = (small.sample(text(k % 90, k % 7), 1, Sampling(max_tokens=3)) for k in range(300))
        return sum(r[0].usage.output_tokens for r in await asyncio.gather(*asked))

    assert run(ask()) > 300


def test_draws_follow_the_probabilities_that_are_left() -> None:
    logits = torch.log(torch.tensor([0.5, 0.25, 0.15, 0.1])).repeat(1000, 1)
    numbers = [k / 1000 for k in range(1000)]

    def shares(draw: Draw) -> list[float]:
        return (torch.bincount(pick(logits, [draw] * 1000, numbers), minlength=4) / 1000).tolist()

    assert shares(Draw(0.0)) == [1, 0, 0, 0]
    assert shares(Draw(1.0)) == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.002)
    assert shares(Draw(1.0, top_k=2)) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.002)
    assert shares(Draw(1.0, top_p=0.8)) == pytest.approx([0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0], abs=0.002)
    assert shares(Draw(0.5)) == pytest.approx([0.25 / 0.345, 0.0625 / 0.345, 0.0225 / 0.345, 0.01 / 0.345], abs=0.002)
    flat = torch.zeros(50, 3000)  # top_p far beyond the tokens that are tried first
    drawn = pick(flat, [Draw(1.0, top_p=0.99)] * 50, [k / 50 for k in range(50)])
    assert len(set(drawn.tolist())) == 50


def test_a_chat_template_cannot_lead_out_of_its_sandbox() -> None:
    user = [ChatMessageUser(content="hello")]
    assert written_out(user, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", {}) == "<user>hello"
    assert written_out(user, None, {}) == "hello"
    begun = [*user, ChatMessageAssistant(content="Well,")]
    assert written_out(begun, "{% for m in messages %}{{ m.content }}{% endfor %}: ", {}) == "hello: Well,"
    for escape in (
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception('no system messages') }}",
        "{% for %}",
    ):
        with pytest.raises(ValueError, match="chat template"):
            written_out(user, escape, {})


def _header(
    *, magic: bytes = b"GGUF", version: int = 3, tensors: int = 1, values: int = 1, shape: int = 32, offset: int = 0
) -> bytes:
    def word(t: str) -> bytes:
        return struct.pack("<Q", len(t)) + t.encode()

    about = word("general.architecture") + struct.pack("<I", 8) + word("llama")
    tensor = word("token_embd.weight") + struct.pack("<IQIQ", 1, shape, 0, offset)
    head = magic + struct.pack("<IQQ", version, tensors, values) + about + tensor
    return head + bytes(-len(head) % 32) + bytes(128)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_header(magic=b"GGML"), "GGML"),
        (_header(version=9), "version"),
        (_header(tensors=2**60), "more than fit"),
        (_header(values=2**62), "more than fit"),
        (_header(shape=2**40), "the file has"),
        (_header(offset=2**62), "the file has"),
        (_header()[:40], "damaged"),
        (_header()[:-64], "the file has"),
        (_header(), "layers"),
        (b"", "GGUF"),
    ],
)
def test_a_broken_file_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.gguf") as caught:
        model(f"heuretic/{path}", cache=None)
    assert says in str(caught.value) or says == "layers"


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    weights = make_folder(tmp_path, "llama") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=str(tmp_path)):
        model(f"heuretic/{tmp_path}", cache=None)


def test_a_file_of_gguf_answers_as_transformers_does() -> None:
    import transformers as t

    from heuretic.lm.weights import find_weights

    weights = find_weights("smollm2-135m")
    ours = model("heuretic/smollm2-135m", cache=None, threads=1)
    question = "What is the capital of France?"
    reply = run(ours.sample(question, 1, Sampling(max_tokens=20, logprobs=True)))[0]
    assert reply.text == "The capital of France is Paris."
    assert run(ours.sample(question, 2, Sampling(max_tokens=20)))[1].text == reply.text
    api = ours.inspect.api
    assert isinstance(api, LocalModel)
    theirs: Any = t.AutoTokenizer.from_pretrained(weights.path.parent, gguf_file=weights.path.name)
    prompt = theirs.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    assert api.prompt([ChatMessageUser(content=question)]) == prompt
    assert api.tokenizer.encode(prompt) == theirs.encode(prompt)

"""Generating prompts about new topics, as LongFact's own were.

Wei et al. 2024, arXiv:2403.18802, section 2 and appendix B, with the prompts of google-deepmind/long-form-factuality (Apache-2.0).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heuretic.evals.safe.prompts import bracketed, filled, paid, used
from heuretic.lm import LanguageModel, Sampling, Usage
from heuretic.lm.answer import Step
from heuretic.lm.strategies.prompting import exchange, laid_out
from heuretic.symbolic import Symbolic, field

CONCEPTS = """\
Instructions:
1. Ask a general question about a concept.
2. IMPORTANT: DO NOT ask about an object (such as a person, place, or event, etc.).
3. Ask about the concept without asking about any particular aspect of the concept (e.g. history or significance).
4. The concept should be very specific and niche within the topic of [TOPIC].
5. The question should require a long-form response that includes several specific details such as numbers, names, dates, etc.
6. Follow the question styles in the provided examples.
7. Wrap the question in square brackets."""
OBJECTS = """\
Instructions:
1. Ask a general question about a specific object (such as a person, place, event, act, company etc.).
2. The object should be very specific and niche within the topic of [TOPIC].
3. IMPORTANT: DO NOT ASK ABOUT A CONCEPT (such as doctrines, theories, ideas, methods, principles, etc.).
4. Do not ask about any particular aspect of the object (such as history, significance, impact, role, purpose, etc.).
5. Follow the question styles in the provided examples.
6. Wrap the question in square brackets."""
CONCEPT_EXAMPLES = (
    ("PEOPLE", "What was the relationship like between Thomas Edison and Nicola Tesla?"),
    ("PEOPLE", "How did the works of Yasunari Kawabata affect Japan and the broader world?"),
    ("EVENTS", "Explain what a black swan event is."),
    ("EVENTS", "What is the interplay between pandemics and societal breakthroughs?"),
    ("COMPANIES", "How has the East India Company affected how modern companies do business?"),
    ("COMPANIES", "What are the distinguishing characteristics of a benefit corporation?"),
    ("CITIES", "Explain the concept of a sponge city in urban planning."),
    ("CITIES", "How has the geography of the Amazon rainforest affected the city of Iquitos?"),
    ("ANIMALS", "How does the mimicry defense mechanism work in the animal kingdom?"),
    ("ANIMALS", "In what ways are an ecosystem affected by salmon runs?"),
)
OBJECT_EXAMPLES = (
    ("PEOPLE", "Who is Quoc V. Le?"),
    ("PEOPLE", "Who is Xochitl Gomez?"),
    ("EVENTS", "What happened in the first modern Olympics?"),
    ("EVENTS", "What happened during the 5th Academy Awards?"),
    ("COMPANIES", "Tell me about the company Acorns."),
    ("COMPANIES", "Tell me about the Carnegie Steel Company."),
    ("CITIES", "Give me an introduction of the city of Bucaramanga."),
    ("CITIES", "Give me an introduction of the city of Khartoum."),
    ("ANIMALS", "Tell me about the Antiguan racer snake."),
    ("ANIMALS", "Tell me about the South Philippine Dwarf Kingfisher"),
)


@dataclass(frozen=True, slots=True)
class Generated:
    """Prompts about one topic.

    Attributes:
        prompts: All different, in the order they came. off_format, duplicates: Replies that were left out. steps: All exchanges.
    """

    topic: str
    prompts: tuple[str, ...]
    off_format: int
    duplicates: int
    steps: tuple[Step, ...]

    @property
    def usage(self) -> Usage:
        """Tokens and calls of all exchanges."""
        return used(self.steps)

    @property
    def cost(self) -> float | None:
        """US dollars of all exchanges, None if the price of one is not known."""
        return paid(self.steps)


class PromptGenerator(Symbolic):
    """Ask for one prompt after the other, showing the last ones as examples.

    Reply number `i` about a topic is sample `i` of its prompt, so the same model and seed give the same prompts. Departures: as
    published this goes on until there are enough prompts; here at most `tries` replies for each wanted one. A prompt that differs
    only in letter case, white space or a last mark is there already, and does not become an example again.
    """

    part: Literal["objects", "concepts"] = field(default="objects", doc="what prompts ask about")
    instructions: str = field(default="", doc="comes first, [TOPIC] is replaced; empty for the published ones")
    examples: tuple[tuple[str, str], ...] = field(default=(), doc="topics and prompts; none for the published ones")
    shown: int = field(default=10, ge=0, doc="the last examples and prompts shown")
    tries: int = field(default=4, ge=1, doc="most replies for each wanted prompt")
    sampling: Sampling = field(default=Sampling(temperature=1.0, max_tokens=128), doc="how replies are drawn")

    async def __call__(self, topic: str, count: int, model: LanguageModel) -> Generated:
        """Return at most `count` prompts about a topic.

        Raises: ValueError if count < 1 or the topic is empty.
        """
        if count < 1 or not topic.strip():
            raise ValueError(f"count must be >= 1 and topic a text, got {count}, {topic!r}")
        published = OBJECT_EXAMPLES if self.part == "objects" else CONCEPT_EXAMPLES
        examples = [(name.upper(), prompt) for name, prompt in self.examples or published]
        found: dict[str, str] = {}
        off_format = duplicates = 0
        steps: list[Step] = []
        for number in range(count * self.tries):
            prompt = self.prompt(topic, examples)
            step = await exchange("generate", laid_out([], prompt), model, 1, number, self.sampling)
            steps.append(step)
            said = read_prompt(step.replies[0].text)
            if said is None:
                off_format += 1
            elif _same(said) in found:
                duplicates += 1
            else:
                found[_same(said)] = said
                examples.append((topic.upper().strip(), said))
            if len(found) == count:
                break
        return Generated(topic, tuple(found.values()), off_format, duplicates, tuple(steps))

    def prompt(self, topic: str, examples: Sequence[tuple[str, str]]) -> str:
        """Return what the model is asked."""
        topic = topic.upper().strip()
        preamble = self.instructions or (OBJECTS if self.part == "objects" else CONCEPTS)
        last = (
            examples[len(examples) - self.shown :] if 0 < self.shown < len(examples) else examples if self.shown else ()
        )
        shown = [f"TOPIC:\n{name}\n\nQUESTION:\n[{prompt}]" for name, prompt in last]
        return "\n\n\n".join([filled(preamble, {"TOPIC": topic}), *shown, f"TOPIC:\n{topic}\n\nQUESTION:"])


def read_prompt(text: str) -> str | None:
    """Return the first text in square brackets as one line, None if there is none or it is empty."""
    found = bracketed(text)
    return (" ".join(found[0].split()) or None) if found else None


async def generate(
    topics: Iterable[str], count: int, model: LanguageModel, generator: PromptGenerator | None = None
) -> list[Generated]:
    """Return at most `count` prompts about each topic; topics are worked on at the same time."""
    chosen = generator or PromptGenerator()
    return list(await asyncio.gather(*(chosen(topic, count, model) for topic in dict.fromkeys(topics))))


def write(path: str | Path, generated: Iterable[Generated]) -> int:
    """Write prompts as JSON lines, which `LongFact(file=...)` reads, and return how many there are."""
    rows = [{"topic": each.topic, "prompt": prompt} for each in generated for prompt in each.prompts]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path(path).write_text(text, encoding="utf-8")
    return len(rows)


def _same(prompt: str) -> str:
    return " ".join(prompt.casefold().split()).rstrip(" ?.!")

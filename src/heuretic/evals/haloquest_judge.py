"""Whether an answer to a question about an image says what the right ones say: HaloQuest's judge, and a rule without one."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from heuretic.evals.judging import verdict
from heuretic.lm import LanguageModel, Sampling
from heuretic.lm.answer import Step
from heuretic.lm.parsing import is_refusal
from heuretic.symbolic import Symbolic, field

SCHEMA: tuple[tuple[str, str], ...] = (
    ("question", "str"),
    ("model_response", "str"),
    ("groundtruth_response", "str"),
    ("sentence_interpret_model_response_main_point", "str"),
    ("sentence_interpret_groundtruth_response_main_point", "str"),
    ("is_prediction_correct", "bool"),
)
"""What the judge writes, in this order: both main points come before the verdict that follows from them."""
RULES = """\
Your task is to determine if the model response is correct given the question and groundtruth response.
Ensure to interpret the model response in accordance to the the question.

If the question asks about a detail of an element that is not present in the image, A prediction of "yes", "no" or "nothing" \
should be considered incorrect because it inaccurately suggests that the element is presented in the image.
The correct prediction in such cases should acknowledge the absence of the element in question by stating the element is not \
present.
If prediction says that it can not assist or cannot provide an answer, then the prediction is incorrect.
If the question is about counting, then the prediction is correct only it matches the groundtruth counts exactly.

question={question},
model_response={response}
groundtruth_response={groundtruth},"""
"""The published prompt, as it is."""
FRAME = """\
Please respond to the last INPUT_OBJECT with OUTPUT_OBJECT according to OUTPUT_TYPE.

INPUT_OBJECT:
  1 + 1 =

OUTPUT_TYPE:
  Answer

  ```python
  class Answer:
    final_answer: int
  ```

OUTPUT_OBJECT:
  ```python
  Answer(
    final_answer=2
  )
  ```

INPUT_OBJECT:
{input}

OUTPUT_TYPE:
  PredictionEvaluation

  ```python
  class PredictionEvaluation:
{schema}
  ```

OUTPUT_OBJECT:"""
"""What langfun puts around a prompt that asks for an object."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said. Main points are empty where it was read from a text that states none."""

    correct: bool
    response_point: str = ""
    groundtruth_point: str = ""


class AutoEval(Symbolic):
    """HaloQuest's judge: it restates the main points of the response and of the right answers, then decides.

    Wang et al. 2024, arXiv:2407.15680, section 4, with the prompt and the schema of the published notebook. Departures: replies off
    format are asked for again with other draws, where the original lets a model mend them; and unless `official`, JSON and plain
    `is_prediction_correct: true` are read too.
    """

    rules: str = field(default=RULES, doc="the prompt, with {question}, {response} and {groundtruth}")
    frame: str = field(default=FRAME, doc="around the prompt, with {input} and {schema}")
    sampling: Sampling = field(default=Sampling(max_tokens=1024), doc="how the first verdict is drawn")
    tries: int = field(default=3, ge=1, doc="how often at most a verdict is asked for")

    def __post_init__(self) -> None:
        for name, text, places in (
            ("rules", self.rules, ("{question}", "{response}", "{groundtruth}")),
            ("frame", self.frame, ("{input}", "{schema}")),
        ):
            if missing := [place for place in places if place not in text]:
                raise ValueError(f"{name} must have {' and '.join(missing)}, got {text[:60]!r}")

    def prompt(self, question: str, response: str, groundtruth: str) -> str:
        """Return what the judge is asked."""
        given = {"{question}": question, "{response}": response, "{groundtruth}": groundtruth}
        # In one pass, so that a response that says "{groundtruth}" stays what it is.
        asked = re.sub(r"\{(?:question|response|groundtruth)\}", lambda place: given[place[0]], self.rules)
        schema = "\n".join(f"    {name}: {kind}" for name, kind in SCHEMA)
        around = {"{input}": "\n".join(f"  {line}".rstrip() for line in asked.splitlines()), "{schema}": schema}
        return re.sub(r"\{(?:input|schema)\}", lambda place: around[place[0]], self.frame)

    async def __call__(
        self, judge: LanguageModel, question: str, response: str, groundtruth: str, official: bool = False
    ) -> tuple[Judgement | None, tuple[Step, ...]]:
        """Return the verdict, None if no reply had one, and all exchanges."""
        asked = self.prompt(question, response, groundtruth)
        return await verdict(
            "auto-eval", judge, asked, lambda text: read_judgement(text, official), self.sampling, self.tries
        )


def read_judgement(reply: str, official: bool = False) -> Judgement | None:
    """Return the verdict in what a judge said, None if it has none or several that differ.

    With `official` only an object with all fields of the schema in their order is a verdict.
    """
    found = official_judgement(reply)
    return found if found is not None or official else tolerant_judgement(reply)


_OBJECT = re.compile(r"\bPredictionEvaluation\s*\(")
_VERDICT = re.compile(
    r"[\"'`*]*is_prediction_correct[\"'`*]*\s*(?:=|:|\bis\b)\s*[\"'`*]*(true|false|yes|no)\b(?!\s*(?:/|\||or\b))",
    re.IGNORECASE,
)


def official_judgement(reply: str) -> Judgement | None:
    """Return the verdict of the last object `PredictionEvaluation(...)` that has all fields of the schema, in their order.

    The text is parsed, and never run.
    """
    for begin in reversed([match.start() for match in _OBJECT.finditer(reply)]):
        fields = _fields(reply[begin:])
        if fields is None or tuple(fields) != tuple(name for name, _ in SCHEMA):
            continue
        *texts, correct = fields.values()
        if isinstance(correct, bool) and all(isinstance(text, str) for text in texts):
            return Judgement(correct, str(texts[3]), str(texts[4]))
    return None


def _fields(text: str) -> dict[str, object] | None:
    """Return the named arguments of the call that a text begins with; None if there is none among its first brackets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strange escapes in what a judge wrote
        for match in islice(re.finditer(r"\)", text), 64):
            try:
                call = ast.parse(text[: match.end()], mode="eval").body
                if isinstance(call, ast.Call) and not call.args:
                    found = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
                    return found if len(found) == len(call.keywords) else None
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                continue
    return None


def tolerant_judgement(reply: str) -> Judgement | None:
    """Return the verdict of a JSON object, else of the lines that name `is_prediction_correct`, if they all say the same."""
    begin, end = reply.find("{"), reply.rfind("}")
    if 0 <= begin < end:
        try:
            found = json.loads(reply[begin : end + 1])
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("result"), dict):
            found = found["result"]
        if isinstance(found, dict) and isinstance(found.get("is_prediction_correct"), bool):
            points = [str(found.get(name) or "") for name, _ in SCHEMA[3:5]]
            return Judgement(found["is_prediction_correct"], *points)
    said = {match[1].casefold() in ("true", "yes") for match in _VERDICT.finditer(reply)}
    return Judgement(said.pop()) if len(said) == 1 else None


_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
_DENYING = (
    "no not none nothing nobody neither nor never without cannot cant dont doesnt didnt isnt arent wasnt werent hasnt havent wont "
    "unable unknown unclear impossible invisible absent missing insufficient undetermined lack lacking unseen 0"
)
_UNTOLD = (
    "tell determine determined determining answer know say information context enough impossible unknown unclear undetermined "
    "insufficient unable"
)
_SENSELESS = (  # in one text, since a list of them would fill the page
    "a an the is are was were be been being there here it its this that these those they them i we you he she his her their our my "
    "in on at of to from by with for as and or but so if can could would do does did has have had any some image picture photo "
    "photograph scene figure see seen show shown showing visible appear present provided given based determine determined "
    "determining tell answer know say information enough context possible word color colour only just very what which who whom how "
    "many much where when why"
)
_TELLING = frozenset(_UNTOLD.split())
_IMAGES = frozenset(("image", "picture", "photo", "photograph"))
_NUMBERS = {word: str(number) for number, word in enumerate(_COUNTED.split())}
_DENIALS, _EMPTY = frozenset(_DENYING.split()), frozenset(_SENSELESS.split())
_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, numbers to twenty as digits, endings of plurals gone."""
    plain = text.casefold().replace("’", "'").replace("'s ", " ").replace("'", "")
    return [_singular(_NUMBERS.get(word, word)) for word in _found(plain)]


def _found(text: str) -> list[str]:
    return _WORD.findall(text)


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _DENIALS:
        return word[:-1]
    return word


def overlap(text: str, answers: Sequence[str]) -> float:
    """Return the largest F1 of the words of a text and of one of the right answers, in [0, 1].

    Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, with the words of `words`.
    """
    said, best = Counter(words(text)), 0.0
    for answer in answers:
        wanted = Counter(words(answer))
        common = (said & wanted).total()
        if common:
            best = max(best, 2 * common / (said.total() + wanted.total()))
    return best


def matches(text: str, answers: Sequence[str]) -> bool:
    """Return whether a text has all words that carry the sense of one of the right answers, and denies as much as it does.

    A rule of this package, without a judge and rough: "I see no bee" is "There is no bee in the image", "no" is not; "3" is "Three",
    and in a text with other numbers it is not. A right answer that says no more than that nobody can tell is matched by a text that
    says so, unless it is that of a model that declines ("I can't assist with that"); a bare "none" is matched by a bare denial, but
    "no" and "nothing" are wrong where another right answer says what is absent.

    On the evaluation set 68% of the right answers match another one to the same question, and 1% (false premises), 3% (visual
    challenge) and 18% (insufficient context) of those to another question of the category match.
    """
    said = words(text)
    denies, sense, tells_nothing = _denies(said), _sense(said), not _TELLING.isdisjoint(said)
    numbers = {word for word in sense if word.isdecimal()}
    declines = is_refusal(text) and _IMAGES.isdisjoint(said)
    if said in (["no"], ["nothing"]) and any(_denies(given) and _sense(given) for given in map(words, answers)):
        return False
    for answer in answers:
        given = words(answer)
        wanted = _sense(given)
        if not given or _denies(given) != denies:
            continue
        if wanted:
            if wanted <= sense and (not any(map(str.isdecimal, wanted)) or numbers <= wanted):
                return True
        elif _TELLING.isdisjoint(given):
            if not sense and not tells_nothing:
                return True
        elif tells_nothing and not declines:
            return True
    return False


def _denies(given: Sequence[str]) -> bool:
    return any(word in _DENIALS for word in given)


def _sense(given: Sequence[str]) -> set[str]:
    return {word for word in given if word not in _EMPTY and word not in _DENIALS}

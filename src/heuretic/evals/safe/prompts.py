"""SAFE's prompts as Wei et al. 2024, arXiv:2403.18802, publish them (appendix C.2, and google-deepmind/long-form-factuality, Apache-2.0).

[PROMPT], [RESPONSE], [STATEMENT] and [KNOWLEDGE] stand for what is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from heuretic.lm.answer import Step
from heuretic.lm.replies import Usage

REVISE = """\
Vague references include but are not limited to:
- Pronouns (e.g., "his", "they", "her")
- Unknown entities (e.g., "this event", "the research", "the invention")
- Non-full names (e.g., "Jeff..." or "Bezos..." when referring to Jeff Bezos)


Instructions:
1. The following STATEMENT has been extracted from the broader context of the given RESPONSE.
2. Modify the STATEMENT by replacing vague references with the proper entities from the RESPONSE that they are referring to.
3. You MUST NOT change any of the factual claims made by the original STATEMENT.
4. You MUST NOT add any additional factual claims to the original STATEMENT. For example, given the response "Titanic is a movie \
starring Leonardo DiCaprio," the statement "Titanic is a movie" should not be changed.
5. Before giving your revised statement, think step-by-step and show your reasoning. As part of your reasoning, be sure to identify \
the subjects in the STATEMENT and determine whether they are vague references. If they are vague references, identify the proper \
entity that they are referring to and be sure to revise this subject in the revised statement.
6. After showing your reasoning, provide the revised statement and wrap it in a markdown code block.
7. Your task is to do this for the STATEMENT and RESPONSE under "Your Task". Some examples have been provided for you to learn how to \
do this task.


Example 1:
STATEMENT:
Acorns is a company.

RESPONSE:
Acorns is a financial technology company founded in 2012 by Walter Cruttenden, Jeff Cruttenden, and Mark Dru that provides \
micro-investing services. The company is headquartered in Irvine, California.

REVISED STATEMENT:
The subject in the statement "Acorns is a company" is "Acorns". "Acorns" is not a pronoun and does not reference an unknown entity. \
Furthermore, "Acorns" is not further specified in the RESPONSE, so we can assume that it is a full name. Therefore "Acorns" is not a \
vague reference. Thus, the revised statement is:
```
Acorns is a company.
```


Example 2:
STATEMENT:
He teaches courses on deep learning.

RESPONSE:
After completing his Ph.D., Quoc Le joined Google Brain, where he has been working on a variety of deep learning projects. Le is also \
an adjunct professor at the University of Montreal, where he teaches courses on deep learning.

REVISED STATEMENT:
The subject in the statement "He teaches course on deep learning" is "he". From the RESPONSE, we can see that this statement comes \
from the sentence "Le is also an adjunct professor at the University of Montreal, where he teaches courses on deep learning.", \
meaning that "he" refers to "Le". From the RESPONSE, we can also see that "Le" refers to "Quoc Le". Therefore "Le" is a non-full name \
that should be replaced by "Quoc Le." Thus, the revised response is:
```
Quoc Le teaches courses on deep learning.
```


Example 3:
STATEMENT:
The television series is called "You're the Worst."

RESPONSE:
Xochitl Gomez began her acting career in theater productions, and she made her television debut in 2016 with a guest appearance on \
the Disney Channel series "Raven's Home." She has also appeared in the television series "You're the Worst" and "Gentefied."

REVISED STATEMENT:
The subject of the statement "The television series is called "You're the Worst."" is "the television series". This is a reference to \
an unknown entity, since it is unclear what television series is "the television series". From the RESPONSE, we can see that the \
STATEMENT is referring to the television series that Xochitl Gomez appeared in. Thus, "the television series" is a vague reference \
that should be replaced by "the television series that Xochitl Gomez appeared in". Thus, the revised response is:
```
The television series that Xochitl Gomez appeared in is called "You're the Worst."
```


Example 4:
STATEMENT:
Dean joined Google.

RESPONSE:
Jeff Dean is a Google Senior Fellow and the head of Google AI, leading research and development in artificial intelligence. Dean \
joined Google in 1999 and has been essential to its continued development in the field.

REVISED STATEMENT:
The subject of the statement "Dean joined Google" is "Dean". From the response, we can see that "Dean" is the last name of "Jeff \
Dean". Therefore "Dean" is a non-full name, making it a vague reference. It should be replaced by "Jeff Dean", which is the full name. \
Thus, the revised response is:
```
Jeff Dean joined Google.
```


Your Task:
STATEMENT:
[STATEMENT]

RESPONSE:
[RESPONSE]"""

RELEVANCE = """\
In a given RESPONSE, two subjects are considered "Foo" if the RESPONSE contains information that explains how the two subjects are \
related.


Instructions:
1. The following STATEMENT has been extracted from the broader context of the given RESPONSE to the given QUESTION.
2. First, state the broad subject of the STATEMENT and the broad subject of the QUESTION.
3. Next, determine whether the subject of the STATEMENT and the subject of the QUESTION should be considered Foo, based on the given \
definition of "Foo."
4. Before showing your answer, think step-by-step and show your specific reasoning.
5. If the subjects should be considered Foo, say "[Foo]" after showing your reasoning. Otherwise show "[Not Foo]" after showing your \
reasoning.
6. Your task is to do this for the STATEMENT and RESPONSE under "Your Task". Some examples have been provided for you to learn how to \
do this task.


Example 1:
QUESTION:
Who is Quoc Le?

RESPONSE:
After completing his Ph.D., Quoc Le joined Google Brain, where he has been working on a variety of deep learning projects. Quoc is \
well-respected by many of his peers, such as Geoffrey Hinton, who is an adjunct professor at the University of Montreal and teaches \
courses on deep learning.

STATEMENT:
Geoffrey Hinton is at the University of Montreal.

SOLUTION:
The subject of the QUESTION is Quoc Le. The subject of the STATEMENT is Geoffrey Hinton. The phrase "Quoc is well-respected by many of \
his peers, such as Geoffrey Hinton" from the RESPONSE shows that the relationship between Quoc Le and Geoffrey Hinton is that they are \
peers. For this reason, the subjects Quoc Le and Geoffrey Hinton are [Foo].


Example 2:
QUESTION:
Who is Quoc Le?

RESPONSE:
After completing his Ph.D., Quoc Le joined Google Brain, where he has been working on a variety of deep learning projects. Geoffrey \
Hinton is an adjunct professor at the University of Montreal, where he teaches courses on deep learning.

STATEMENT:
Geoffrey Hinton is at the University of Montreal.

SOLUTION:
The subject of the QUESTION is Quoc Le. The subject of the STATEMENT is Geoffrey Hinton. While both subjects seem to be related to \
deep learning, the RESPONSE does not contain any phrases that explain what the relationship between Quoc Le and Geoffrey Hinton is. \
Thus, the subjects Quoc Le and Geoffrey Hinton are [Not Foo].


Your Task:
QUESTION:
[PROMPT]

RESPONSE:
[RESPONSE]

STATEMENT:
[STATEMENT]"""

QUERY = """\
Instructions:
1. You have been given a STATEMENT and some KNOWLEDGE points.
2. Your goal is to try to find evidence that either supports or does not support the factual accuracy of the given STATEMENT.
3. To do this, you are allowed to issue ONE Google Search query that you think will allow you to find additional useful evidence.
4. Your query should aim to obtain new information that does not appear in the KNOWLEDGE. This new information should be useful for \
determining the factual accuracy of the given STATEMENT.
5. Format your final query by putting it in a markdown code block.

KNOWLEDGE:
[KNOWLEDGE]

STATEMENT:
[STATEMENT]"""

VERDICT = """\
Instructions:
1. You have been given a STATEMENT and some KNOWLEDGE points.
2. Determine whether the given STATEMENT is supported by the given KNOWLEDGE. The STATEMENT does not need to be explicitly supported by \
the KNOWLEDGE, but should be strongly implied by the KNOWLEDGE.
3. Before showing your answer, think step-by-step and show your specific reasoning. As part of your reasoning, summarize the main \
points of the KNOWLEDGE.
4. If the STATEMENT is supported by the KNOWLEDGE, be sure to show the supporting evidence.
5. After stating your reasoning, restate the STATEMENT and then determine your final answer based on your reasoning and the STATEMENT.
6. Your final answer should be either "Supported" or "Not Supported". Wrap your final answer in square brackets.

KNOWLEDGE:
[KNOWLEDGE]

STATEMENT:
[STATEMENT]"""

_SLOT = re.compile(r"\[(PROMPT|RESPONSE|STATEMENT|KNOWLEDGE|TOPIC|EXAMPLES)\]")
_FENCED = re.compile(r"```(?:\w+\n)?(.*?)```", re.DOTALL)
_BRACKETS = re.compile(r"\[(.*?)\]", re.DOTALL)

_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_CHOICE = re.compile(r"[^\w\[\]]*(?:n?or|and|vs\.?|/|\|)[^\w\[\]]*", re.IGNORECASE)
_ASKED = re.compile(r"[*_\"'`)]*\?")
_NEGATION = re.compile(r"(?:(?<!\bor )\b(?:not|never)|n['’]t|\bcannot)(?:\s+be)?[\s*_\"'`]*\Z", re.IGNORECASE)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its slots filled, all at once: what is filled in is never taken for a slot."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template).strip(" \n")


def first_fenced(text: str) -> str | None:
    """Return what the first fenced block of a text has in it, without the name of a language; None if that is nothing."""
    found = _FENCED.search(text)
    return (found[1].strip(" \n") or None) if found else None


def bracketed(text: str) -> list[str]:
    """Return what stands in square brackets, in order."""
    return _BRACKETS.findall(text)


def decided(text: str, word: str) -> bool | None:
    """Return what the last brackets decide that say a word or its contrary ("Not ..."), True for the word; None if none do.

    Letter case and marks do not matter. "not [Word]" is the contrary; both labels as a choice ("[Word] or [Not Word]", "neither [Word] nor
    [Not Word]") and brackets before a question mark decide nothing.
    """
    found = [(each, side) for each in _BRACKETED.finditer(text) if (side := sided(each[1], word)) is not None]
    while found:
        last, side = found.pop()
        if found and found[-1][1] is not side and _CHOICE.fullmatch(text[found[-1][0].end() : last.start()]):
            found.pop()
        elif not _ASKED.match(text, last.end()):
            return side is not bool(_NEGATION.search(text[: last.start()]))
    return None


def sided(text: str, word: str) -> bool | None:
    """Return whether a text says a word (True), or "not" and the word (False), and nothing else."""
    said = " ".join(re.sub(r"[\W_]", " ", text).casefold().split())
    return {word: True, f"not {word}": False, f"un{word}": False}.get(said)


def used(steps: tuple[Step, ...]) -> Usage:
    """Return the tokens and calls of exchanges."""
    return sum((reply.usage for step in steps for reply in step.replies), Usage())


def paid(steps: tuple[Step, ...]) -> float | None:
    """Return the cost of exchanges in US dollars, None if the price of one is not known."""
    costs = [reply.cost for step in steps for reply in step.replies if reply.outcome != "error"]
    return None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None)

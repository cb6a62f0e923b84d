"""Exemplars as the papers print them."""

from __future__ import annotations

from heuretic.lm.strategies.least_to_most import Decomposition
from heuretic.lm.strategies.prompting import Exemplar

ARITHMETIC = (
    Exemplar(
        "There are 15 trees in the grove. Grove workers will plant trees in the grove today. After they are done, there will be 21 "
        "trees. How many trees did the grove workers plant today?",
        "There are 15 trees originally. Then there were 21 trees after some more were planted. So there must have been 21 - 15 = 6.",
        "6",
    ),
    Exemplar(
        "If there are 3 cars in the parking lot and 2 more cars arrive, how many cars are in the parking lot?",
        "There are originally 3 cars. 2 more cars arrive. 3 + 2 = 5.",
        "5",
    ),
    Exemplar(
        "Leah had 32 chocolates and her sister had 42. If they ate 35, how many pieces do they have left in total?",
        "Originally, Leah had 32 chocolates. Her sister had 42. So in total they had 32 + 42 = 74. After eating 35, they had "
        "74 - 35 = 39.",
        "39",
    ),
    Exemplar(
        "Jason had 20 lollipops. He gave Denny some lollipops. Now Jason has 12 lollipops. How many lollipops did Jason give to "
        "Denny?",
        "Jason started with 20 lollipops. Then he had 12 after giving some to Denny. So he gave Denny 20 - 12 = 8.",
        "8",
    ),
    Exemplar(
        "Shawn has five toys. For Christmas, he got two toys each from his mom and dad. How many toys does he have now?",
        "Shawn started with 5 toys. If he got 2 toys each from his mom and dad, then that is 4 more toys. 5 + 4 = 9.",
        "9",
    ),
    Exemplar(
        "There were nine computers in the server room. Five more computers were installed each day, from monday to thursday. How many "
        "computers are now in the server room?",
        "There were originally 9 computers. For each of 4 days, 5 more computers were added. So 5 * 4 = 20 computers were added. "
        "9 + 20 is 29.",
        "29",
    ),
    Exemplar(
        "Michael had 58 golf balls. On tuesday, he lost 23 golf balls. On wednesday, he lost 2 more. How many golf balls did he have at "
        "the end of wednesday?",
        "Michael started with 58 golf balls. After losing 23 on tuesday, he had 58 - 23 = 35. After losing 2 more, he had "
        "35 - 2 = 33 golf balls.",
        "33",
    ),
    Exemplar(
        "Olivia has $23. She bought five bagels for $3 each. How much money does she have left?",
        "Olivia had 23 dollars. 5 bagels for 3 dollars each will be 5 x 3 = 15 dollars. So she has 23 - 15 dollars left. 23 - 15 is 8.",
        "8",
    ),
)
"""The eight of Wei et al. 2022, arXiv:2201.11903, table 20, for arithmetic."""

LAST_LETTER = tuple(
    Exemplar(
        f'Take the last letters of the words in "{first} {second}" and concatenate them.',
        f'The last letter of "{first}" is "{first[-1]}". The last letter of "{second}" is "{second[-1]}". Concatenating them is '
        f'"{first[-1]}{second[-1]}".',
        first[-1] + second[-1],
    )
    for first, second in (("Elon", "Musk"), ("Larry", "Page"), ("Sergey", "Brin"), ("Bill", "Gates"))
)
"""The four of Wei et al. 2022, arXiv:2201.11903, table 22, for the last letters of two words."""

LAST_LETTER_PARTS = tuple(
    Decomposition(", ".join(words), tuple(", ".join(words[:k]) for k in range(2, len(words) + 1)))
    for words in (("think", "machine", "learning", "reasoning"), ("transformer", "language", "vision"))
)
"""How least-to-most splits lists of words: prefixes, from two words on.

Zhou et al. 2023, arXiv:2205.10625, section 3.1, where the first list stands; the second is ours, of words in their prompts.
"""

LAST_LETTER_LISTS = (
    Exemplar(
        "think, machine",
        'The last letter of "think" is "k". The last letter of "machine" is "e". Concatenating "k", "e" leads to "ke". So, '
        '"think, machine" outputs "ke".',
        "ke",
    ),
    Exemplar(
        "think, machine, learning",
        '"think, machine" outputs "ke". The last letter of "learning" is "g". Concatenating "ke", "g" leads to "keg". So, '
        '"think, machine, learning" outputs "keg".',
        "keg",
    ),
    Exemplar(
        "transformer, language",
        'The last letter of "transformer" is "r". The last letter of "language" is "e". Concatenating: "r", "e" leads to "re". So, '
        '"transformer, language" outputs "re".',
        "re",
    ),
    Exemplar(
        "transformer, language, vision",
        '"transformer, language" outputs "re". The last letter of "vision" is "n". Concatenating: "re", "n" leads to "ren". So, '
        '"transformer, language, vision" outputs "ren".',
        "ren",
    ),
)
"""Least-to-most's solved lists, the second stage: a longer list builds on the answer to a shorter one.

Zhou et al. 2023, arXiv:2205.10625, appendix A.1.3; the first two are table 1. Departures, here and in the next: lists stand
without quotes, and "The answer is" follows, as the parser needs it.
"""

LAST_LETTER_CHAINS = tuple(
    Exemplar(
        ", ".join(words),
        " ".join(f'The last letter of "{word}" is "{word[-1]}".' for word in words)
        + f" Concatenating {', '.join(f'{chr(34)}{word[-1]}{chr(34)}' for word in words)} leads to "
        f'"{"".join(word[-1] for word in words)}". So, "{", ".join(words)}" outputs "{"".join(word[-1] for word in words)}".',
        "".join(word[-1] for word in words),
    )
    for words in (
        ("think", "machine"),
        ("learning", "reasoning", "generalization"),
        ("artificial", "intelligence"),
        ("transformer", "language", "vision"),
    )
)
"""The chains of thought that least-to-most is compared with there, appendix A.1.2; the first two are table 1."""

GSM8K_PARTS = (
    Decomposition(
        "Elsa has 5 apples. Anna has 2 more apples than Elsa. How many apples do they have together?",
        ("How many apples does Anna have?",),
    ),
)
"""The sub-question in the one exemplar of Zhou et al. 2023 for GSM8K; the question itself is the second."""

GSM8K_SOLVED = (
    Exemplar(
        "Elsa has 5 apples. Anna has 2 more apples than Elsa. How many apples do they have together?",
        "Let's break down this problem: 1. How many apples does Anna have? 2. How many apples do they have together?\n"
        "1. Anna has 2 more apples than Elsa. So Anna has 2 + 5 = 7 apples.\n"
        "2. Elsa and Anna have 5 + 7 = 12 apples together.",
        "12",
    ),
)
"""The single-pass variant of Zhou et al. 2023 for GSM8K, table 9: `ChainOfThought(exemplars=GSM8K_SOLVED)` breaks down and solves at once."""

STEP_BACK = (
    Exemplar("Which position did Knox Cunningham hold from May 1955 to Apr 1956?", "", "Which positions have Knox Cunningham held in his career?"),
    Exemplar("Who was the spouse of Anna Karina from 1968 to 1974?", "", "Who were the spouses of Anna Karina?"),
    Exemplar("Which team did Thierry Audel play for from 2007 to 2008?", "", "Which teams did Thierry Audel play for in his career?"),
    Exemplar("What was the operator of GCR Class 11E from 1913 to Dec 1922?", "", "What were the operators of GCR Class 11E in history?"),
    Exemplar("Which country did Sokolovsko belong to from 1392 to 1525?", "", "Which countries did Sokolovsko belong to in history?"),
)  # fmt: skip
"""Questions of TimeQA with step-back questions: Zheng et al. 2024, arXiv:2310.06117, table 11."""

_SUMS = {
    "turn left": '"TURN_LEFT"',
    "turn right": '"TURN_RIGHT"',
    "jump left": '"TURN_LEFT" + "JUMP"',
    "run right": '"TURN_RIGHT" + "RUN"',
    "look twice": '"LOOK" * 2',
    "run and look twice": '"RUN" + "LOOK" * 2',
    "jump right thrice": '("TURN_RIGHT" + "JUMP") * 3',
    "walk after run": '"RUN" + "WALK"',
    "turn opposite left": '"TURN_LEFT" * 2',
    "turn around left": '"TURN_LEFT" * 4',
    "turn opposite right": '"TURN_RIGHT" * 2',
    "turn around right": '"TURN_RIGHT" * 4',
    "walk opposite left": '"TURN_LEFT" * 2 + "WALK"',
    "walk around left": '("TURN_LEFT" + "WALK") * 4',
}
_JOINED = {  # command: its parts with what they output
    "jump left": (("turn left", '"TURN_LEFT"'), ("jump", '"JUMP"')),
    "run right": (("turn right", '"TURN_RIGHT"'), ("run", '"RUN"')),
    "run and look twice": (("run", '"RUN"'), ("look twice", '"LOOK" * 2')),
    "walk after run": (("run", '"RUN"'), ("walk", '"WALK"')),
    "walk opposite left": (("turn opposite left", '"TURN_LEFT" * 2'), ("walk", '"WALK"')),
}
_REPEATED = {  # command: what it repeats, what that outputs, how often, and how the paper says so
    "look twice": ("look", '"LOOK"', 2, 'the output of "look" two times'),
    "jump right thrice": ("jump right", '"TURN_RIGHT" + "JUMP"', 3, 'the output of "jump right" three times'),
    "turn opposite left": ("turn left", '"TURN_LEFT"', 2, 'the output of "turn left" twice'),
    "turn around left": ("turn left", '"TURN_LEFT"', 4, 'the output of "turn left" four times'),
    "turn opposite right": ("turn right", '"TURN_RIGHT"', 2, 'the output of "turn right" twice'),
    "turn around right": ("turn right", '"TURN_RIGHT"', 4, 'the output of "turn right" four times'),
    "walk around left": ("walk left", '"TURN_LEFT" + "WALK"', 4, 'the output of "walk around left" four times'),
}


def _mapped(command: str) -> str:
    result = f'So the output of "{command}" is {_SUMS[command]}.'
    if command in _JOINED:
        (a, x), (b, y) = _JOINED[command]
        return (
            f'The output of "{command}" concatenates: the output of "{a}", the output of "{b}". "{a}" outputs {x}. "{b}" outputs {y}. '
            f'So concatenating the output of "{a}" and the output of "{b}" leads to {_SUMS[command]}. {result}'
        )
    if command in _REPEATED:
        part, output, times, repeating = _REPEATED[command]
        listed = ", ".join([f'the output of "{part}"'] * times)
        return (
            f'The output of "{command}" concatenates: {listed}. "{part}" outputs {output}. So repeating {repeating} leads to '
            f"{_SUMS[command]}. {result}"
        )
    return f'"{command}" outputs {_SUMS[command]}.'


SCAN = tuple(Exemplar(command, _mapped(command), actions) for command, actions in _SUMS.items())
"""The fourteen commands of Zhou et al. 2023, arXiv:2205.10625, appendix B.1, with actions as Python's sums: `Actions` reads them.

They serve all three ways of prompting there: without rationales, as chains of thought, and as least-to-most's second stage.
"""

SCAN_PARTS = tuple(
    Decomposition(command, parts)
    for command, parts in (
        ("look right after look twice", ("look right", "look twice")),
        ("jump opposite right thrice and walk", ("jump opposite right", "jump opposite right thrice", "walk")),
        ("run left twice and run right", ("run left", "run left twice", "run right")),
        ("run opposite right", ("run opposite right",)),
        ("look opposite right thrice after walk", ("look opposite right", "look opposite right thrice", "walk")),
        ("jump around right", ("jump right", "jump around right")),
        ("look around right thrice and walk", ("look right", "look around right", "look around right thrice", "walk")),
        ("turn right after run right thrice", ("turn right", "run right", "run right thrice")),
    )
)
"""The eight of the same appendix that break commands down. Departure: without the words on how the list was found."""

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
    Decomposition(", ".join(words), tuple(", ".join(words[:k]) for k in range(1, len(words) + 1)))
    for words in (("think", "machine", "learning"), ("transformer", "language"))
)
"""How least-to-most splits lists of words, as in Zhou et al. 2023, arXiv:2205.10625, appendix 7.1: growing sublists."""

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
        'The last letter of "transformer" is "r". The last letter of "language" is "e". Concatenating "r", "e" leads to "re". So, '
        '"transformer, language" outputs "re".',
        "re",
    ),
)
"""The solved lists of the second stage, as in Zhou et al. 2023: a longer list builds on the answer to a shorter one."""

GSM8K_PARTS = (
    Decomposition(
        "Elsa has 5 apples. Anna has 2 more apples than Elsa. How many apples do they have together?",
        ("How many apples does Anna have?",),
    ),
)
"""The single exemplar of Zhou et al. 2023 for GSM8K, first stage; the question itself is its second sub-question."""

GSM8K_SOLVED = (
    Exemplar(
        "Elsa has 5 apples. Anna has 2 more apples than Elsa. How many apples do they have together?",
        "Let's break down this problem: 1. How many apples does Anna have? 2. How many apples do they have together?\n"
        "1. Anna has 2 more apples than Elsa. So Anna has 2 + 5 = 7 apples.\n"
        "2. Elsa and Anna have 5 + 7 = 12 apples together.",
        "12",
    ),
)
"""The single-pass variant of Zhou et al. 2023 for GSM8K: `ChainOfThought(exemplars=GSM8K_SOLVED)` breaks down and solves at once."""

STEP_BACK = (
    Exemplar("Which position did Knox Cunningham hold from May 1955 to Apr 1956?", "", "Which positions have Knox Cunningham held in his career?"),
    Exemplar("Who was the spouse of Anna Karina from 1968 to 1974?", "", "Who were the spouses of Anna Karina?"),
    Exemplar("Which team did Thierry Audel play for from 2007 to 2008?", "", "Which teams did Thierry Audel play for in his career?"),
    Exemplar("What was the operator of GCR Class 11E from 1913 to Dec 1922?", "", "What were the operators of GCR Class 11E in history?"),
    Exemplar("Which sovereign state did Fort Sumter belong to?", "", "Which sovereign states did Fort Sumter belong to in history?"),
)  # fmt: skip
"""Questions with step-back questions in the manner of Zheng et al. 2024, arXiv:2310.06117, appendix D: the first four are theirs."""

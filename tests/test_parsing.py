"""Answers are found in what models really write, in one canonical form."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import heuretic as hr
from heuretic.lm.parsing import Actions, AfterCue, Choice, FinalNumber, Whole, canonical, canonical_number, is_refusal
from heuretic.lm.questions import Question

Q = Question("How many?")
MC = Question("Which?", choices=("a dog", "5", "5 apples", "Paris"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 18.", "18"),
        ("The answer is 18", "18"),
        ("The answer is $1,234.50.", "1234.5"),
        ("The answer is $ 1,234,567.", "1234567"),
        ("**The answer is:** **18**", "18"),
        ("So the answer is **18**.", "18"),
        ("The answer is 18.0 dollars.", "18"),
        ("the ANSWER is: 7 apples", "7"),
        ("The answer is -5.", "-5"),
        ("The answer is −5.", "-5"),
        ("The answer is -$5.", "-5"),
        ("The answer is $-5.", "-5"),
        ("The answer is 1/2.", "0.5"),
        ("The answer is 2/6 of it.", "1/3"),
        ("The answer is \\frac{1}{3}.", "1/3"),
        ("The answer is -1/3.", "-1/3"),
        ("The answer is 25%.", "25"),
        ("The answer is 0.50", "0.5"),
        ("The answer is .5", "0.5"),
        ("The answer is 1e3.", "1000"),
        ("The answer is $18$.", "18"),
        ("The answer is $\\boxed{18}$.", "18"),
        ("The answer is 5 + 6 = 11.", "11"),
        ("The answer is 3 * 4 = 12 apples.", "12"),
        ("The answer is 12 eggs.\nNo, wait. The answer is 13 eggs.", "13"),
        ("The answer is 18. That is 3 times 6.", "18"),
        ("The answer\nis 18.", "18"),
        ("The final answer is 18. Then 20 were lost.", "18"),
        ("The correct answer is 18, since 20 - 2 = 18", "18"),
        ("3 + 4 = 7. So she has 7 of them.", "7"),
        ("18", "18"),
        ("-18", "-18"),
        ("007", "7"),
        ("-0.0", "0"),
        ("The answer is 1\u202f234.", "1234"),
        ("He has 10-5 apples", "5"),
        ("The answer is: 5\n\nNote: the answer is based on the table.", "5"),
        ("The answer is 5.\n\nTherefore, the answer is", "5"),
        ("The answer is 5. As computed, the answer is not 6.", "5"),
        ("The answer is A7.", None),
        ("The answer is 1/0.", None),
        ("The answer is eighteen.", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: str | None) -> None:
    assert FinalNumber()(text, Q) == number


def test_without_a_cue_there_is_no_number_if_that_is_asked_for() -> None:
    assert FinalNumber(anywhere=False)("She has 7.", Q) is None
    assert FinalNumber(anywhere=False)("The answer is 7.", Q) == "7"


@given(st.fractions())
def test_equal_numbers_have_equal_canonical_texts(number: Fraction) -> None:
    text = f"{number.numerator}/{number.denominator}"
    again = f"{3 * number.numerator}/{3 * number.denominator}"
    found = canonical_number(text)
    assert found is not None
    assert Fraction(found) == number
    assert canonical_number(again) == found
    assert canonical_number(found) == found


@given(st.integers(-(10**15), 10**15), st.integers(0, 3))
def test_separators_signs_zeros_and_units_change_nothing(number: int, zeros: int) -> None:
    written = f"{number:,}" + ("." + "0" * zeros if zeros else "")
    assert FinalNumber()(f"The answer is {written} dollars.", Q) == str(number)
    assert FinalNumber()(f"The answer is {written.replace('-', '−')}.", Q) == str(number)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_keep_their_value(number) -> None:
    found = canonical_number(format(number, "f"))
    assert found is not None
    assert Fraction(found) == Fraction(number)
    assert canonical_number(format(number, "f") + "0") == found


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (FinalNumber(), Choice(), AfterCue(), Whole()):
        for full in (text, f"The answer is {text}", f"The answer is ({text})"):
            for question in (Q, MC):
                found = parse(full, question)
                assert found is None or (found and found == found.strip())


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("The answer is B.", "B"),
        ("The answer is (b).", "B"),
        ("The answer is **B**", "B"),
        ("The answer is: B) 5", "B"),
        ("The answer is option C.", "C"),
        ("(A) is wrong. The answer is (C).", "C"),
        ("The answer is (C) 5 apples, not (B).", "C"),
        ("B", "B"),
        ("b", "B"),
        ("(B) 5", "B"),
        ("The answer is a dog.", "A"),
        ("The answer is A dog.", "A"),
        ("The answer is Paris.", "D"),
        ("The answer is paris", "D"),
        ("The answer is 5.", "B"),
        ("The answer is 5 apples.", "C"),
        ("The answer is \\boxed{D}.", "D"),
        ("The answer is \\text{(D)}.", "D"),
        ("The answer is (E).", None),
        ("The answer is London.", None),
        ("It could be (A) or (B).", None),
        ("The answer is (A) or (B).", None),
        ("The answer is A or B.", None),
        ("The answer is (A), (B).", None),
        ("The answer is A/B.", None),
        ("The answer is (B) and nothing else.", "B"),
        ("The answer is B, not (A) or (C).", "B"),
        ("The answer is probably (A), since (B) is too few.", "A"),
        ("The answer is (B), a five.", "B"),
        ("The answer is (B): 5, (C) is 5 apples.", "B"),
        ("The answer is not (A) but (B).", "B"),
        ("The answer is (B), not (A) or so.", "B"),
        ("(A) is wrong, so (B).", "B"),
        ("A is incorrect. (C) it is.", "C"),
        ("(A) is wrong", None),
        ('"B"', "B"),
        ("The answer is B because A is wrong.", "B"),
        ("The answer is B is correct", "B"),
        ("The answer is $\\boxed{\\text{B}}$.", "B"),
        ("The answer is (C) because (B) is too few.", "C"),
        ("The answer is B.\n\nNote: the answer is based on the text.", "B"),
        ("", None),
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    assert Choice()(text, MC) == letter


def test_options_within_the_question_text_count_too() -> None:
    question = Question("Which?\nOptions:\n(A) yes\n(B) no")
    assert Choice()("So the answer is (B).", question) == "B"
    assert canonical("(B)", Choice(), question) == "B"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is nk.", "nk"),
        ('So the answer is "nk".', "nk"),
        ("The answer is **NK**.", "nk"),
        ("The answer is ] ] }", "] ] }"),
        ("The answer is no.\n\nQ: more", "no"),
        ("The answer is no. The answer is yes.", "yes"),
        ("The answer is: yes", "yes"),
        ("The answer is: yes\nThat the answer is correct can be seen.", "yes"),
        ("The answer is: in the garden", "in the garden"),
        ("Nothing here.", None),
        ("The answer is", None),
        ("The answer is .", None),
    ],
)
def test_after_cue(text: str, answer: str | None) -> None:
    assert AfterCue()(text, Q) == answer


def test_one_line_may_be_an_answer_by_itself() -> None:
    assert AfterCue(whole_without_cue=True)("nk.", Q) == "nk"
    assert AfterCue(whole_without_cue=True)("Well,\nnk.", Q) is None
    assert Whole()('"Yes."', Q) == "yes"
    assert Whole()(" \n", Q) is None


def test_targets_take_the_form_of_answers() -> None:
    assert canonical("1,000.0", FinalNumber(), Q) == "1000"
    assert canonical("nobody", FinalNumber(), Q) == "nobody"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, I cannot assist with this request.", True),
        ("I apologize, but I am unable to answer that.", True),
        ("Unfortunately, I can't answer this.", True),
        ("I can't help with that.", True),
        ("As an AI language model, I cannot provide that.", True),
        ("Sorry, I won't answer that.", True),
        ("I'm sorry, but as an AI model, I'm not able to discuss this.", True),
        ("I cannot fulfill this request.", True),
        ("She can't help with that, so 5.", False),
        ("Sorry, 18.", False),
        ("I can answer that: yes.", False),
    ],
)
def test_refusals(text: str, refused: bool) -> None:
    assert is_refusal(text) is refused


def test_parsers_are_values() -> None:
    for parse in (FinalNumber(anywhere=False), Choice(cue="Answer:"), AfterCue(), Whole()):
        assert hr.loads(hr.dumps(parse)) == parse
        assert hash(parse) == hash(hr.loads(hr.dumps(parse)))


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ('The answer is ("TURN_LEFT" + "JUMP") * 2.', "TURN_LEFT JUMP TURN_LEFT JUMP"),
        ('The answer is "RUN" + "LOOK" * 2', "RUN LOOK LOOK"),
        (
            'The answer is ("TURN_LEFT" * 2 + "WALK") * 2 + "JUMP".',
            "TURN_LEFT TURN_LEFT WALK TURN_LEFT TURN_LEFT WALK JUMP",
        ),
        ('The answer is "TURN LEFT" * 2 * 2', "TURN_LEFT TURN_LEFT TURN_LEFT TURN_LEFT"),
        ("I_TURN_LEFT I_JUMP", "TURN_LEFT JUMP"),
        ("The answer is I_WALK, I_RUN.", "WALK RUN"),
        ('The answer is "RUN" * 100000000000000000000', None),
        ('The answer is ("RUN"', None),
        ('The answer is "FLY".', None),
        ("The answer is .", None),
        ("2 * 3", None),
    ],
)
def test_actions(text: str, actions: str | None) -> None:
    assert Actions()(text, Q) == actions


@given(st.text(alphabet='()*+"1290 RUNWALKturn_left.'))
def test_no_text_breaks_actions(text: str) -> None:
    found = Actions()(text, Q)
    assert found is None or len(found.split()) <= 200

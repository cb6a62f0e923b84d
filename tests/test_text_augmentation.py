"""Word replacement and translation there and back, with the scores computed by hand and by another implementation."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import heuretic as hr
from heuretic.data.text_augmentation import (
    BackTranslation,
    FittedWordReplacement,
    WordReplacement,
    replace_if_similar,
    sentences,
    translator,
)
from heuretic.data.vocabulary import words

CORPUS = ["a dog barks", "A cat", "the dog sleeps the day"]
TEXTS = st.lists(st.text(max_size=40), max_size=8)


def rng(seed: int | list[int] = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_the_book(texts: list[list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return idf and summed tf-idf, written down word by word from the formulas of the docstring."""
    df = Counter(word for text in texts for word in dict.fromkeys(text))
    idf = {word: math.log(len(texts) / n) for word, n in df.items()}
    total = dict.fromkeys(df, 0.0)
    for text in texts:
        for word in text:
            total[word] += idf[word] / len(text)
    return idf, total


def test_scores_of_three_sentences_by_hand() -> None:
    fitted = WordReplacement().fit(CORPUS)
    one, two = math.log(3), math.log(3 / 2)  # words in one text, and in two
    assert fitted.vocabulary == ("a", "dog", "barks", "cat", "the", "sleeps", "day")
    assert fitted.idf == pytest.approx([two, two, one, one, one, one, one])
    s = [two / 3 + two / 2, two / 3 + two / 5, one / 3, one / 2, 2 * one / 5, one / 5, one / 5]
    assert fitted.tf_idf == pytest.approx(s)
    assert fitted.tf_idf.round(4).tolist() == [0.3379, 0.2162, 0.3662, 0.5493, 0.4394, 0.2197, 0.2197]
    weights = one / 2 - np.array(s)
    assert fitted.chances == pytest.approx(weights / weights.sum())
    assert fitted.chances[3] == 0  # "cat" scores most and is never put in


def test_probabilities_by_hand() -> None:
    fitted = WordReplacement(0.3).fit(CORPUS)
    one, two = math.log(3), math.log(3 / 2)
    # "the dog sleeps the day": scores 2 one / 5 for both "the", two / 5 for "dog", one / 5 for the others.
    z = [0, 2 * one / 5 - two / 5, one / 5, 0, one / 5]
    expected = [0.3 * 5 * value / sum(z) for value in z]
    found = fitted.probabilities(["the dog sleeps the day", "a", "", "dog dog"])
    assert found[0] == pytest.approx(expected)
    assert found[0].mean() == pytest.approx(0.3)
    assert [array.tolist() for array in found[1:]] == [[0.0], [], [0.0, 0.0]]  # equal scores: nothing is replaced
    assert WordReplacement(0.9).fit(CORPUS).probabilities(["the dog sleeps the day"])[0][1] == 1  # 2.0, cut off


def test_unseen_words_count_as_seen_in_one_text() -> None:
    fitted = WordReplacement(0.3).fit(CORPUS)
    assert fitted.probabilities(["a wolf dog"])[0] == pytest.approx(fitted.probabilities(["a barks dog"])[0])
    assert fitted.probabilities(["a wolf fox"])[0] == pytest.approx(fitted.probabilities(["a barks day"])[0])


def test_lower_case_is_a_choice() -> None:
    assert "A" in WordReplacement(lowercase=False).fit(CORPUS).vocabulary
    same = WordReplacement().fit(CORPUS)
    assert same.probabilities(["A DOG barks"])[0] == pytest.approx(same.probabilities(["a dog barks"])[0])


@given(TEXTS.filter(lambda texts: any(words(text) for text in texts)))
def test_scores_equal_those_of_a_loop(texts: list[str]) -> None:
    fitted = WordReplacement(0.5).fit(texts)
    idf, total = by_the_book([words(text.lower()) for text in texts])
    assert list(fitted.vocabulary) == list(idf)
    assert fitted.idf == pytest.approx(list(idf.values()))
    assert fitted.tf_idf == pytest.approx(list(total.values()))
    assert fitted.chances.sum() == pytest.approx(1)
    for text, found in zip(texts, fitted.probabilities(texts), strict=True):
        row = words(text.lower())
        score = [row.count(word) / len(row) * idf[word] for word in row]
        z = np.array([max(score) - value for value in score])
        wanted = np.minimum(1, 0.5 * len(row) * z / z.sum()) if z.sum() > 1e-12 else np.zeros(len(row))
        assert found == pytest.approx(wanted)


def test_scores_equal_those_from_scikit_learns_counts() -> None:
    vectorizer = pytest.importorskip("sklearn.feature_extraction.text").CountVectorizer(
        tokenizer=words, token_pattern=None
    )
    texts = [f"the {'red' if i % 3 else 'green'} fox no. {i % 7} sees {i % 5} dogs" for i in range(40)]
    counts = vectorizer.fit_transform(texts).toarray()
    idf = np.log(len(texts) / (counts > 0).sum(0))
    total = (counts / counts.sum(1, keepdims=True)).sum(0) * idf
    fitted = WordReplacement().fit(texts)
    order = [vectorizer.vocabulary_[word] for word in fitted.vocabulary]
    assert fitted.tf_idf == pytest.approx(total[order])


@given(TEXTS, st.integers(0, 100))
def test_probability_zero_changes_nothing(texts: list[str], seed: int) -> None:
    assert WordReplacement(0.0).fit(CORPUS)(texts, rng(seed)) == texts


@given(TEXTS, st.integers(0, 100))
def test_only_words_change_and_only_to_words_of_the_corpus(texts: list[str], seed: int) -> None:
    fitted = WordReplacement(0.9).fit([*CORPUS, "naïve 東京, über-Ätherisch!", "हिन्दी 😀"])
    for before, after in zip(texts, fitted(texts, rng(seed)), strict=True):
        old, new = words(before), words(after)
        assert len(old) == len(new)  # so no two words grew together
        assert all(b == a or a in fitted.vocabulary for b, a in zip(old, new, strict=True))
        if old == new:
            assert before == after


def test_the_share_of_replaced_words_is_the_expected_one() -> None:
    vocabulary = [f"w{i}" for i in range(2000)]
    draw = rng(1)
    texts = [" ".join(draw.choice(vocabulary[: 20 + i % 500], 30)) for i in range(400)]
    for probability in (0.1, 0.5, 0.9):
        fitted = WordReplacement(probability).fit(texts)
        chance = np.concatenate(fitted.probabilities(texts))
        assert chance.mean() <= probability + 1e-9
        if probability == 0.1:
            assert chance.mean() == pytest.approx(0.1, abs=1e-6)  # none is cut off
        old = [word for text in texts for word in words(text)]
        new = [word for text in fitted(texts, rng(2)) for word in words(text)]
        ids = {word: i for i, word in enumerate(fitted.vocabulary)}
        # A word may be drawn that was there, which does not show.
        shown = chance * (1 - fitted.chances[[ids[word] for word in old]])
        changed = sum(a != b for a, b in zip(old, new, strict=True))
        assert abs(changed - shown.sum()) < 4.5 * math.sqrt((shown * (1 - shown)).sum())


def test_new_words_come_by_their_chances() -> None:
    fitted = WordReplacement(1.0).fit(CORPUS)
    texts = ["zebra x x x"] * 20_000  # "zebra" scores less and is always replaced, as 1.0 * 4 * z / z > 1
    drawn = Counter(text.split()[0] for text in fitted(texts, rng(3)))
    expected = 20_000 * fitted.chances
    found = np.array([drawn[word] for word in fitted.vocabulary])
    possible = expected > 0
    assert found.sum() == 20_000
    assert found[~possible].sum() == 0
    chi_squared = ((found - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_squared < 22.5  # 99.9% of chi-squared with 6 - 1 degrees of freedom is 20.5


def test_equal_seeds_give_equal_texts() -> None:
    fitted = WordReplacement(0.9).fit(CORPUS)
    texts = CORPUS * 5
    assert fitted(texts, rng(5)) == fitted(texts, rng(5)) != fitted(texts, rng(6))
    generator = torch.Generator().manual_seed(5)
    first, second = fitted(texts, generator), fitted(texts, generator)
    assert first != second
    assert first == fitted(texts, generator.manual_seed(5))


def test_new_words_do_not_grow_together_with_others() -> None:
    fitted = WordReplacement(1.0).fit(["cat", "cat dog", "dog", "cat dog owl"])
    fitted.chances[:] = [1, 0, 0]
    always = FittedWordReplacement(
        fitted.replacement, 4, {"cat": 0, "dog": 1, "owl": 2}, fitted.idf, np.array([0.0, 1.0, 1.0])
    )
    # Full stops and "dog" are seen less than "cat"; the comma stands twice and scores most.
    assert always(["dog,cat dog's, x x x x,,,,,,"], rng()) == ["cat,cat cat cat cat, cat cat cat cat,,,,,,"]


def test_replacement_is_a_value() -> None:
    description = WordReplacement(0.8, lowercase=False)
    assert hr.loads(hr.dumps(description)) == description != WordReplacement()
    assert hr.symbolic.open_choices(WordReplacement(hr.one_of(0.1, 0.7)))
    with pytest.raises(hr.symbolic.InvalidField, match="probability"):
        WordReplacement(1.1)


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_a_corpus_needs_words(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"texts must have words, got none\. Try"):
        WordReplacement().fit(texts)


def test_one_text_as_corpus_gives_every_word_alike() -> None:
    fitted = WordReplacement().fit(["b a b c"])
    assert fitted.chances == pytest.approx([1 / 3] * 3)
    assert fitted([], rng()) == []
    assert fitted.probabilities([]) == []


class Dictionary:
    """Translates word by word, some words one way or another at random by seed, and remembers what it was asked."""

    def __init__(self, entries: dict[str, list[str]]) -> None:
        self.entries = entries
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str], /, *, temperature: float, seed: int) -> list[str]:
        self.asked += texts
        result = []
        for text in texts:
            draw = rng([seed, len(text), sum(map(ord, text))])
            choices = [self.entries.get(word, [word]) for word in words(text)]
            picked = [str(draw.choice(choice)) if temperature else choice[0] for choice in choices]
            result.append(" ".join(picked))
        return result


THERE = {"big": ["gross"], "dog": ["Hund"], "sees": ["sieht", "erblickt"], "house": ["Haus"], "the": ["das"]}
BACK = {"gross": ["large", "big", "tall"], "Hund": ["dog", "hound"], "sieht": ["sees"], "erblickt": ["spots"], "Haus": ["house"], "das": ["the"]}  # fmt: skip


def test_back_translation_words_texts_anew() -> None:
    there, back = Dictionary(THERE), Dictionary(BACK)
    fixed = BackTranslation(there, back, temperature=0)
    assert fixed(["the big dog sees the house", "short", ""], rng()) == ["the large dog sees the house", "short", ""]
    varied = BackTranslation(there, back, temperature=0.9, copies=8)
    found = set(varied(["the big dog sees the house"] * 200, rng()))
    assert 1 < len(found) <= 8
    assert {words(text)[1] for text in found} <= {"large", "big", "tall"}


def test_no_text_is_translated_twice() -> None:
    there, back = Dictionary(THERE), Dictionary(BACK)
    paraphrase = BackTranslation(there, back)
    texts = ["the big dog sees it. the big dog sees it. Another dog sleeps!", "the big dog sees it."]
    first = paraphrase(texts, rng(0))
    assert paraphrase(texts, rng(1)) == first
    assert sorted(there.asked) == ["Another dog sleeps!", "the big dog sees it."]
    assert len(back.asked) == 2
    again = BackTranslation(Dictionary(THERE), Dictionary(BACK))
    assert again(texts[::-1], rng(7)) == first[::-1]  # a function of seed and text, not of the order
    paraphrase(["one more big dog"], rng())
    assert len(there.asked) == 3


def test_length_limits() -> None:
    assert replace_if_similar("0123456789", "0123456789abcde") == "0123456789abcde"  # longer by half
    assert replace_if_similar("0123456789", "0123456789abcdef") == "0123456789"
    assert replace_if_similar("0123456789" * 2, "0123456789") == "0123456789"  # shorter by half
    assert replace_if_similar("0123456789" * 2, "012345678") == "0123456789" * 2
    assert replace_if_similar("012345678", "0123456789") == "012345678"


def test_sentences() -> None:
    assert sentences("It rains. Does it?  Yes!\nSo be it") == ["It rains.", "Does it?", "Yes!", "So be it"]
    assert sentences("3.14 is pi") == ["3.14 is pi"]
    assert sentences("雨が降る。本当？はい") == ["雨が降る。", "本当？", "はい"]
    assert sentences("") == sentences(" \n ") == []


def test_refusals_of_back_translation() -> None:
    there = Dictionary(THERE)
    with pytest.raises(ValueError, match=r"temperature must be >= 0, got temperature=-1"):
        BackTranslation(there, there, temperature=-1)
    with pytest.raises(ValueError, match="copies must be >= 1, got copies=0"):
        BackTranslation(there, there, copies=0)
    with pytest.raises(ValueError, match="must return one text for each, got 0 for 1 texts"):
        BackTranslation(lambda texts, **_: [], there)(["long enough text"], rng())
    with pytest.raises(ValueError, match="batch_size"):
        translator(None, None, batch_size=0)


@pytest.fixture(scope="module")
def marian() -> tuple[Any, Any]:
    """A real MarianMT of transformers with random weights, and a tokenizer of single words."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    names = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(37))]
    rust = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    rust.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=rust, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=32
    )
    config = transformers.MarianConfig(
        vocab_size=len(names), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, init_std=0.5,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None, num_beams=4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.MarianMTModel(config), tokenizer


def test_translator_of_a_transformers_model(marian: tuple[Any, Any], fixed_weights: None) -> None:
    model, tokenizer = marian
    model.train()
    translate = translator(model, tokenizer, batch_size=3, max_new_tokens=6)
    texts = [f"w{i} w{i + 1} w{2 * i}" + " w3" * (i % 3) for i in range(8)]
    state = torch.get_rng_state()
    found = translate(texts, temperature=0.9, seed=1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    assert translate(texts, temperature=0.9, seed=1) == found != translate(texts, temperature=0.9, seed=2)
    assert [translate([text], temperature=0.9, seed=1)[0] for text in texts] == found  # whatever is translated with it
    assert translate(texts[::-1], temperature=0.9, seed=1) == found[::-1]
    assert all(len(words(text)) <= 6 for text in found)
    assert any(words(text) for text in found)


def test_temperature_zero_is_the_greedy_search_of_transformers(marian: tuple[Any, Any], fixed_weights: None) -> None:
    model, tokenizer = marian
    model.eval()
    texts = ["w1 w2", "w5 w6 w7 w8"]
    tokens = tokenizer(texts, return_tensors="pt", padding=True)
    tokens.pop("token_type_ids", None)
    greedy = model.generate(**tokens, do_sample=False, num_beams=1, max_new_tokens=5)
    expected = tokenizer.batch_decode(greedy, skip_special_tokens=True)
    translate = translator(model, tokenizer, max_new_tokens=5)
    assert translate(texts, temperature=0, seed=0) == expected
    assert translate(texts, temperature=1e-6, seed=0) == expected


def test_words_are_drawn_from_the_softmax_at_the_temperature(marian: tuple[Any, Any], fixed_weights: None) -> None:
    model, tokenizer = marian
    model.eval()
    n, temperature = 3000, 0.7
    texts = [f"x{i}" for i in range(n)]  # all of them unknown, so the model is asked the same n times
    tokens = tokenizer(["x"], return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=tokens["input_ids"], decoder_input_ids=torch.tensor([[0]])).logits[0, -1].double()
    chances = torch.softmax(logits / temperature, 0).numpy()
    drawn = Counter(
        translator(model, tokenizer, batch_size=1000, max_new_tokens=1)(texts, temperature=temperature, seed=4)
    )
    names = tokenizer.convert_ids_to_tokens(range(len(chances)))
    special = {"<pad>", "</s>", "<unk>"}
    expected = {"": sum(c for c, name in zip(chances, names, strict=True) if name in special)}
    expected |= {name: c for c, name in zip(chances, names, strict=True) if name not in special}
    kept = {name for name, chance in expected.items() if n * chance >= 5}
    chi_squared = sum((drawn[name] - n * expected[name]) ** 2 / (n * expected[name]) for name in kept)
    freedom = len(kept)
    assert freedom > 3
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom) + 5


def test_back_translation_with_models(marian: tuple[Any, Any], fixed_weights: None) -> None:
    model, tokenizer = marian
    translate = translator(model, tokenizer, max_new_tokens=8)
    paraphrase = BackTranslation(translate, translate, seed=3)
    texts = ["w1 w2 w3 w4 w5. w7 w8 w9", "w10 w11 w12 w13 w14"]
    first = paraphrase(texts, rng())
    assert first == BackTranslation(translate, translate, seed=3)(texts, rng(9))
    assert len(first) == 2

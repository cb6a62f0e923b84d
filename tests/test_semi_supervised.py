"""Semi-supervised recipes: their formulas against numpy and exact gradients, which rows they take, and exact resuming."""

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import Tensor, nn

import heuretic as hr
from heuretic.data.augment import FlipCrop, RandAugment
from heuretic.data.dataset import DataSet, Split
from heuretic.data.packed import Texts
from heuretic.data.text_augmentation import WordReplacement
from heuretic.data.vocabulary import Vocabulary
from heuretic.ideas import few_labels
from heuretic.ideas.result import Arm, compare
from heuretic.nn.text_classifier import TextClassifier
from heuretic.train import Constant, Diverged, Loop, Optimization, Run, Trained, Views
from heuretic.train.consistency import annealed_cross_entropy, annealing_threshold, in_one_pass
from heuretic.train.pseudo_labels import Relabelled, balanced_rows
from heuretic.train.recipes.meta_pseudo_labels import Baseline, Learning
from heuretic.train.recipes.uda import uda_loss

pytestmark = pytest.mark.usefixtures("fixed_weights")
DIGITS = hr.data.load("digits", validation=300)
DATA = DIGITS.with_labels(50)
SHIFT = STRONG = (FlipCrop(1, flip=False),)  # RandAugment expects grey values up to 255; theirs end at 16
ADAM = Optimization(functools.partial(torch.optim.AdamW, lr=0.01), cpu=True)
RECIPES = ("uda", "noisy_student", "meta_pseudo_labels")


def network(width: int = 8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16 * width, 10)
    )  # fmt: skip


def train(recipe: str, loop: Loop, data: Any = DATA, **given: Any) -> Trained:
    """Train by a recipe, with a moving average, in small batches."""
    shared: dict[str, Any] = {
        "optimization": replace(ADAM, ema=0.95), "loop": replace(loop, progress=False), "batch": 16, "ratio": 3, "seed": 5,
        "augment": SHIFT,
    }  # fmt: skip
    if recipe == "uda":
        return hr.train.uda(network(), data, **shared | {"strong": STRONG, "annealing": "linear"} | given)
    if recipe == "noisy_student":
        models = (network(), lambda: network(12, 1))
        return hr.train.noisy_student(models, data, **shared | {"noise": STRONG, "confidence": 0.0} | given)
    own = {"strong": STRONG, "wait": 0.1, "uda_weight": 1.0, "finetuning_steps": 12}
    return hr.train.meta_pseudo_labels(network(), network(8, 1), data, **shared | own | given)


# What is annealed, and the loss of unsupervised data augmentation


@pytest.mark.parametrize(
    ("schedule", "progress", "classes", "expected"),
    [
        ("linear", 0.0, 10, 0.1),
        ("linear", 0.5, 10, 0.55),
        ("linear", 1.0, 10, 1.0),
        ("log", 0.0, 4, 0.25),
        ("log", 0.5, 4, 0.25 + 0.75 * 0.917915),  # 1 - exp(-2.5)
        ("log", 1.0, 2, 0.5 + 0.5 * 0.993262),  # 1 - exp(-5)
        ("exp", 0.0, 2, 0.5 + 0.5 * 0.006738),  # exp(-5)
        ("exp", 0.5, 10, 0.1 + 0.9 * 0.082085),  # exp(-2.5)
        ("exp", 1.0, 10, 1.0),
    ],
)
def test_thresholds_by_hand(schedule: Any, progress: float, classes: int, expected: float) -> None:
    assert annealing_threshold(schedule, progress, classes) == pytest.approx(expected, abs=1e-6)


def test_the_threshold_leaves_out_labels_that_are_known() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0])
    loss, share = annealed_cross_entropy(probabilities.log(), labels, 0.55)
    assert_allclose(loss, -(np.log(0.4) + np.log(0.3)) / 2)  # the first row is known with 0.9
    assert share == pytest.approx(2 / 3)
    nothing, share = annealed_cross_entropy(probabilities.log(), labels, 0.2)
    assert (float(nothing), float(share)) == (0.0, 0.0)


@given(st.integers(0, 10_000), st.floats(0.1, 2), st.floats(0, 1), st.floats(0, 10), st.floats(0.1, 1))
def test_the_loss_of_uda_is_the_formula(
    seed: int, temperature: float, confidence: float, weight: float, threshold: float
) -> None:
    draw = np.random.default_rng(seed)
    z, plain, changed = (draw.normal(0, 2, (rows, 3)) for rows in (4, 5, 5))
    labels = draw.integers(0, 3, 4)

    def softmax(logits: Any) -> Any:
        e = np.exp(logits - logits.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    known = softmax(z)[np.arange(4), labels]
    kept = known <= threshold
    supervised = -np.log(known[kept]).mean() if kept.any() else 0.0
    target, agreed = softmax(plain / temperature), softmax(changed)
    divergence = (target * (np.log(target) - np.log(agreed))).sum(1)
    expected = supervised + weight * (divergence * (softmax(plain).max(1) > confidence)).sum() / 5
    batch = (
        (torch.from_numpy(z), torch.from_numpy(labels)),
        (torch.from_numpy(plain), torch.from_numpy(changed)),
        threshold,
    )
    loss, _ = uda_loss(temperature, confidence, weight)(Doubles(), batch)  # type: ignore[misc]
    assert_allclose(float(loss), expected, rtol=1e-4, atol=1e-5)


class Doubles(nn.Module):
    """Gives its inputs as logits, which stay in double precision."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_targets_get_no_gradient() -> None:
    x = torch.randn(2, 3, requires_grad=True)
    plain, changed = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    loss, _ = uda_loss(0.4, 0.0, 1.0)(Doubles(), ((x, torch.tensor([0, 1])), (plain, changed), 1.0))  # type: ignore[misc]
    loss.backward()
    assert plain.grad is None or not plain.grad.any()
    assert changed.grad is not None
    assert changed.grad.any()


def test_batches_of_equal_shape_share_their_statistics() -> None:
    norm = nn.BatchNorm1d(2, affine=False)
    parts = torch.randn(5, 2), torch.randn(3, 2) + 4
    together = torch.cat(in_one_pass(norm, *parts))
    assert_allclose(together.mean(0), 0, atol=1e-6)
    assert norm.num_batches_tracked == 1
    bag = nn.EmbeddingBag(9, 2)
    short, long = in_one_pass(bag, torch.ones(2, 3, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64))
    assert (short.shape, long.shape) == ((2, 2), (1, 2))


def test_forms_are_of_the_same_rows() -> None:
    data = Split(np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.full(40, -1))
    views = Views(data, 8, lambda raw, augment, draw, device: torch.from_numpy(raw + 100 * len(augment)), torch.device("cpu"),
                  seed=3, forms=((), (len,)))  # fmt: skip
    plain, changed = views(2)
    assert torch.equal(plain + 100, changed)
    assert sorted(row.item() for step in range(5) for row in views(step)[0].flatten()) == list(range(40))


# Pseudo labels


def test_rows_are_chosen_by_hand() -> None:
    probabilities = np.array([[0.9, 0.05, 0.05], [0.6, 0.2, 0.2], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.35, 0.4, 0.25]])
    # Class 0 keeps its two most confident; of class 1 only row 3 is at least 0.45, and is taken twice; class 2 is never predicted.
    assert balanced_rows(probabilities, 0.45, 2, seed=0).tolist() == [0, 2, 3, 3]
    # Three of each: class 1 has two rows, one of which is taken once more.
    chosen = balanced_rows(probabilities, 0.3, 3, seed=0).tolist()
    assert chosen in ([0, 1, 2, 3, 3, 4], [0, 1, 2, 3, 4, 4])
    assert {tuple(balanced_rows(probabilities, 0.3, 3, seed=seed)) for seed in range(9)} == {
        (0, 1, 2, 3, 3, 4), (0, 1, 2, 3, 4, 4)
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"confidence=0\.95, got 0\.900 at most"):
        balanced_rows(probabilities, 0.95, 2, seed=0)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5), st.integers(1, 30), st.floats(0, 0.9))
def test_chosen_rows_are_balanced(seed: int, rows: int, classes: int, per_class: int, confidence: float) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), rows)
    highest, predicted = probabilities.max(1), probabilities.argmax(1)
    if highest.max() < confidence:
        return
    chosen = balanced_rows(probabilities, confidence, per_class, seed)
    counts = np.bincount(chosen, minlength=rows)
    assert (highest[counts > 0] >= confidence).all()
    for label in range(classes):
        fit = np.flatnonzero((predicted == label) & (highest >= confidence))
        if len(fit):
            assert counts[fit].sum() == per_class
            assert counts[fit].max() - counts[fit].min() <= 1
            assert highest[fit[counts[fit] > 0]].min() >= np.sort(highest[fit])[-min(per_class, len(fit))]


def test_relabelled_rows_keep_their_images() -> None:
    rows = Relabelled(DIGITS.train, np.array([4, 4, 9]), np.array([[0.1, 0.9], [0.1, 0.9], [1, 0]]))
    part = rows[np.array([2, 0])]
    assert len(rows) == 3
    assert np.array_equal(part.inputs, DIGITS.train.inputs[[9, 4]])
    assert np.array_equal(part.labels, [[1, 0], [0.1, 0.9]])


def test_a_student_learns_what_its_teacher_predicts() -> None:
    """The teacher's hard labels are the ones that its own predictions say, and the student comes to agree with them."""
    unlabelled: Any = DATA.unlabelled
    data = replace(DATA, unlabelled=unlabelled[:200])
    teacher = network()
    trained = hr.train.noisy_student(
        (teacher, network(8, 1)), data, optimization=ADAM, loop=Loop(steps=60, progress=False), batch=16, ratio=4, soft=False,
    )  # fmt: skip
    x = hr.train.Images.of(data.train)(unlabelled.inputs[:200])
    with torch.no_grad():
        agreement = (teacher.eval()(x).argmax(1) == trained.model(x).argmax(1)).float().mean()
    assert agreement > 0.85
    assert set(trained.metrics) == {
        "validation_loss", "validation_accuracy", "teacher_validation_loss", "teacher_validation_accuracy"
    }  # fmt: skip
    assert len(trained.runs) == 2


# Meta pseudo labels


def test_feedback_is_the_gradient_through_the_students_update() -> None:
    """Summed over all labels that could be drawn, the teacher's gradient is that of the student's loss after its update.

    The exact gradient of sum over labels of T(label | u) * loss(student after one step on label) is taken by automatic and
    by finite differences, with models in double precision.
    """
    teacher, student, u, x, y, update = linear_case()
    weights = {name: value.clone() for name, value in student.state_dict().items()}
    losses = []
    for label in range(3):
        moved = {name: value.clone() for name, value in weights.items()}
        step = torch.func.grad(lambda w, k=label: F.cross_entropy(torch.func.functional_call(student, w, u), k_of(k)))(
            moved
        )
        moved = {name: moved[name] - 0.1 * step[name] for name in moved}
        losses.append(F.cross_entropy(torch.func.functional_call(student, moved, x), y).detach())

    def expected(weight: Tensor) -> Tensor:
        return F.linear(u, weight, teacher.bias).softmax(1)[0] @ torch.stack(losses)

    [exact] = torch.autograd.grad(expected(teacher.weight), teacher.weight)
    shift = torch.zeros_like(exact)
    shift[1, 2] = 1e-5
    difference = (expected(teacher.weight + shift) - expected(teacher.weight - shift)).item() / 2e-5
    assert exact[1, 2].item() == pytest.approx(difference, rel=1e-5)
    ours = torch.zeros_like(exact)
    probabilities = teacher(u).softmax(1)[0].detach()
    for label in range(3):
        student.load_state_dict(weights)
        _, gain = update.teach(u, k_of(label), x, y, 0)
        loss = gain * F.cross_entropy(teacher(u), k_of(label))
        ours += probabilities[label] * torch.autograd.grad(loss, teacher.weight)[0]
    assert_allclose(ours, exact, rtol=1e-4, atol=1e-7)  # losses are taken in single precision, as in any training
    assert F.cosine_similarity(ours.flatten(), exact.flatten(), 0) > 0.999


def k_of(label: int) -> Tensor:
    return torch.tensor([label])


def linear_case() -> Any:
    """Return linear models, one unlabelled row and some labelled ones, and what updates the student at a rate of 0.1."""
    torch.manual_seed(7)
    teacher, student = (nn.Linear(4, 3).double() for _ in range(2))
    u, x, y = torch.randn(1, 4).double(), torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    plain = Optimization(functools.partial(torch.optim.SGD, lr=0.1), Constant(), cpu=True)
    update = Learning(student=plain.start(student, 9), teacher=plain.start(teacher, 9), baseline=Baseline(0.99))
    return teacher, student, u, x, y, update


def test_a_teacher_prefers_labels_that_helped() -> None:
    """With feedback alone, a label that lowered the student's loss more than labels did before becomes more probable."""
    teacher, _, u, x, y, update = linear_case()
    update.uda_weight, update.feedback = 0.0, 1000.0
    before = teacher(u).softmax(1)[0].detach()
    torch.manual_seed(1)
    label = int(torch.multinomial(before[None], 1))
    supervised = torch.autograd.grad(F.cross_entropy(teacher(x), y), teacher.weight)[0]
    weight = teacher.weight.detach().clone()
    torch.manual_seed(1)
    measures = update(((x, y), (u, u)), 0)
    moved = teacher.weight.detach() - (weight - 0.1 * supervised)  # what the feedback did
    [towards] = torch.autograd.grad(F.linear(u, weight.requires_grad_()).log_softmax(1)[0, label], weight)
    assert torch.sign((moved * towards).sum()) == torch.sign(measures["signal"])
    assert measures["signal"] == pytest.approx(0.99 * float(measures["gain"]), rel=1e-5)  # the mean began at 0


def test_the_baseline_is_a_moving_mean() -> None:
    baseline = Baseline(0.9)
    values = [float(baseline(torch.tensor(value))) for value in (1.0, 2.0)]
    assert values == pytest.approx([1 - 0.1, 2 - (0.9 * 0.1 + 0.1 * 2)])
    again = Baseline(0.9)
    again.load_state_dict(baseline.state_dict())
    assert again(torch.tensor(3.0)) == baseline(torch.tensor(3.0))


def test_a_student_waits() -> None:
    student = network()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    hr.train.meta_pseudo_labels(
        student, network(8, 1), DATA, strong=STRONG, optimization=ADAM, loop=Loop(steps=4, progress=False), batch=8, ratio=2, wait=1.0,
        finetuning_steps=0,
    )  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_a_diverged_teacher_is_reported_as_such() -> None:
    optimization = Optimization(functools.partial(torch.optim.SGD, lr=1e20), Constant(), cpu=True)
    with pytest.raises(Diverged, match="loss must be finite, got nan"):
        train("meta_pseudo_labels", Loop(steps=20), optimization=optimization, wait=0.0)


# All of them


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns_from_fifty_labels(recipe: str) -> None:
    trained = train(recipe, Loop(steps=150))
    assert trained.metrics["validation_accuracy"] > 0.6  # 0.1 by chance
    assert not trained.model.training


@pytest.mark.parametrize("recipe", RECIPES)
def test_labels_that_are_held_back_change_nothing(recipe: str) -> None:
    others = replace(DATA, unlabelled=Split(DATA.unlabelled.inputs, np.arange(len(DATA.unlabelled)) % 10))  # type: ignore[arg-type, union-attr]
    assert_equal(train(recipe, Loop(steps=3)).model, train(recipe, Loop(steps=3), others).model)


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Killed(BaseException):
    pass


def killer(steps: int) -> Callable[[Run], None]:
    """Return a callback that ends everything after so many steps, in whatever training these are."""
    left = [steps]

    def callback(run: Run) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    return callback


@pytest.mark.parametrize(
    ("recipe", "killed_at"), [("uda", 7), ("noisy_student", 8), ("noisy_student", 17), ("meta_pseudo_labels", 6), ("meta_pseudo_labels", 15)]
)  # fmt: skip
def test_a_killed_run_ends_with_the_same_bits(recipe: str, killed_at: int, tmp_path: Path) -> None:
    loop = Loop(steps=10, checkpoint_every=3)
    whole = train(recipe, loop)
    with pytest.raises(Killed):
        train(recipe, replace(loop, folder=str(tmp_path), callbacks=(killer(killed_at),)))
    counted: list[int] = []
    resumed = train(recipe, replace(loop, folder=str(tmp_path), callbacks=(lambda run: counted.append(run.done),)))
    assert_equal(whole.model, resumed.model)
    assert whole.metrics == resumed.metrics
    assert len(counted) < sum(run.steps for run in whole.runs)  # it did go on from a checkpoint


@pytest.mark.parametrize("recipe", RECIPES)
def test_refusals(recipe: str) -> None:
    with pytest.raises(ValueError, match=r"must have unlabelled rows .* Try data\.with_labels"):
        train(recipe, Loop(steps=1), DIGITS)
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\], got 1\.5"):
        train(recipe, Loop(steps=1), confidence=1.5)
    with pytest.raises(ValueError, match="ratio must be above 0, got 0"):
        train(recipe, Loop(steps=1), ratio=0)


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="annealing must be one of linear, log, exp, or None, got 'cubic'"):
        train("uda", Loop(steps=1), annealing="cubic")
    with pytest.raises(ValueError, match="models must be a teacher and at least one student, got 1"):
        hr.train.noisy_student((network(),), DATA)
    with pytest.raises(ValueError, match="per_class must be at least 1, got 0"):
        train("noisy_student", Loop(steps=1), per_class=0)
    with pytest.raises(ValueError, match="accumulate must be 1"):
        train("meta_pseudo_labels", Loop(steps=1), optimization=replace(ADAM, accumulate=2))


def test_programs_make_larger_students() -> None:
    """A recipe is a program itself, models and all; given as functions, students are made when it is their turn."""

    def program(width: int) -> Any:
        return hr.sym(nn.Sequential)(
            hr.sym(nn.Conv2d)(1, width, 3, stride=2), hr.sym(nn.ReLU)(), hr.sym(nn.Flatten)(), hr.sym(nn.Linear)(9 * width, 10)
        )  # fmt: skip

    training = hr.sym(hr.train.noisy_student)(
        (program(4), program(8), hr.one_of(program(12), program(16))), hr.sym(hr.data.load)("digits", validation=100, labels=50),
        optimization=hr.sym(Optimization)(cpu=True), loop=hr.sym(Loop)(steps=5, progress=False), batch=8, ratio=2,
        noise=(RandAugment(),), confidence=0.0,
    )  # fmt: skip
    trained = hr.train.run(hr.replace(training, {"models[2]": program(16)}), seed=3)
    assert len(trained.runs) == 3
    assert trained.model[0].out_channels == 16  # type: ignore[union-attr, index]
    direct = hr.train.noisy_student(
        (program(4), lambda: hr.build(program(8))), DATA, optimization=ADAM, loop=Loop(steps=3, progress=False), batch=8, ratio=2,
        confidence=0.0,
    )  # fmt: skip
    assert direct.model[0].out_channels == 8  # type: ignore[union-attr, index]


def paragraphs() -> DataSet[Any, Any]:
    """Return paragraphs of Python's manual on sequences and on special methods, to be told apart; fifteen of each are labelled."""
    texts, labels = [], []
    for label, topic in enumerate(("typesseq", "specialnames")):
        found = [part for part in topics[topic].split("\n\n") if len(part) > 80][:70]
        texts += found
        labels += [label] * len(found)
    rows = Split(Texts.of(texts), np.array(labels))
    order = np.random.default_rng(0).permutation(len(rows))
    data = DataSet("manual", rows[order[40:]], rows[order[:40]], rows[order[:40]], None, ("sequences", "methods"), "")
    return data.with_labels(30)


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns_texts(recipe: str) -> None:
    data = paragraphs()
    unlabelled: Any = data.unlabelled
    replaced = (WordReplacement(0.3).fit(unlabelled.inputs),)
    vocabulary = Vocabulary.build(unlabelled.inputs)
    optimization = Optimization(functools.partial(torch.optim.AdamW, lr=0.03), cpu=True)
    shared: dict[str, Any] = {
        "optimization": optimization,
        "loop": Loop(steps=60, progress=False), "batch": 8, "ratio": 3, "inputs": hr.train.Texts(vocabulary),
    }  # fmt: skip
    models = [TextClassifier(vocabulary.size, 2, 16) for _ in range(2)]
    if recipe == "uda":
        trained = hr.train.uda(models[0], data, strong=replaced, **shared)
    elif recipe == "noisy_student":
        trained = hr.train.noisy_student(models, data, noise=replaced, **shared)
    else:
        trained = hr.train.meta_pseudo_labels(
            models[0],
            models[1],
            data,
            strong=replaced,
            uda_weight=1.0,
            finetuning_steps=30,
            finetuning=optimization,
            **shared,
        )
    assert trained.metrics["validation_accuracy"] > 0.7


# The checks of the ideas


@pytest.mark.parametrize("slug", ["uda", "noisy-student", "meta-pseudo-labels"])
def test_checks_repeat_bit_for_bit(slug: str) -> None:
    idea = import_module(f"heuretic.ideas.{slug.replace('-', '_')}").IDEA
    first, again = (idea.reproduce("smoke") for _ in range(2))
    assert first.arms == again.arms
    assert first.verdict == "not testable at this scale"
    assert [comparison.treatment for comparison in first.comparisons] == [slug, f"{slug}, digits"]
    assert set(first.data) == {"digits"}
    programs = [arm.settings["program"] for name, arm in first.arms.items() if "," in name]
    assert all(re.search(r"labels=50\)", each) and "batch=32" in each for each in programs)
    with pytest.raises(ValueError, match="scale must be one of smoke, small, full, got 'huge'"):
        idea.reproduce("huge")


def arm(*accuracies: float) -> Arm:
    return Arm({}, {"test_accuracy": accuracies})


def test_the_rule_by_hand() -> None:
    """The mean must be above, and no data set below."""
    arms = {
        "x": arm(0.8, 0.81, 0.8), "supervised": arm(0.7, 0.7, 0.71), "x, a": arm(0.9, 0.91, 0.9), "supervised, a": arm(0.7, 0.7, 0.7),
        "x, b": arm(0.5, 0.9, 0.7), "supervised, b": arm(0.7, 0.7, 0.7), "x, c": arm(0.6, 0.61, 0.6), "supervised, c": arm(0.7, 0.7, 0.7),
    }  # fmt: skip
    overall, a, b, c = (
        compare(arms, "test_accuracy", f"x{end}", f"supervised{end}") for end in ("", ", a", ", b", ", c")
    )
    assert few_labels.judged("small", overall, [a, b]) == "reproduced"
    assert few_labels.judged("small", overall, [a, c]) == "not testable at this scale"
    assert few_labels.judged("small", c, [c]) == "not reproduced"
    assert few_labels.judged("small", b, [a, b]) == "not testable at this scale"
    assert few_labels.judged("smoke", overall, [a]) == "not testable at this scale"
    assert "0.9033 against 0.7000 on a" in few_labels.reason_of(arms, overall, [a])

"""Unsupervised data augmentation: predict alike for a row without label and for what strong augmentation makes of it.

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", arXiv:1904.12848. The training is
`heuretic.train.uda`; word replacement, its augmentation of texts, is in `heuretic.data`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import heuretic as hr
from heuretic.ideas.few_labels import Task, check, image_task, text_task
from heuretic.ideas.idea import Idea, Paper, Scale
from heuretic.ideas.result import Reproduction
from heuretic.train import uda

CLAIM = "with few labels, higher accuracy than learning the labels alone, on images and on texts"
Plan = tuple[Callable[[], tuple[Task, ...]], tuple[int, ...]]
#: By scale: what makes the tasks, and the seeds. A shorter "small", of 400 to 800 steps, was run first, with the seeds 1 to 4.
PLANS: Mapping[Scale, Plan] = {
    "smoke": (lambda: (image_task("digits", labels=50, validation=300, steps=20, lrs=(0.01,), width=4),), (1, 2)),
    "small": (
        lambda: (
            image_task("fashion-mnist", labels=250, validation=2_000, steps=1_500, lrs=(0.005, 0.01)),
            image_task("cifar10", labels=1_000, validation=2_000, steps=500, lrs=(0.003, 0.006)),
            text_task(labels=120, validation=1_000, steps=400, lrs=(0.01, 0.03)),
        ),
        (11, 12, 13, 14, 15),
    ),
    "full": (
        lambda: (
            image_task("fashion-mnist", labels=250, validation=5_000, steps=20_000, lrs=(0.001, 0.003, 0.01), width=64, ratio=7, cpu=False),
            image_task("cifar10", labels=4_000, validation=5_000, steps=50_000, lrs=(0.001, 0.003, 0.01), width=64, ratio=7, cpu=False),
            text_task(labels=120, validation=1_000, steps=2_000, lrs=(0.003, 0.01, 0.03), cpu=False),
        ),
        (1, 2, 3, 4, 5),
    ),
}  # fmt: skip


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small network on few labels alone, and on them and many unlabelled rows by consistency.

    The labels alone are learned with weak or with strong augmentation, as is better; labels are all used from the beginning or
    annealed, on images linearly and on texts early.
    The verdict follows from `heuretic.ideas.few_labels.RULE`.

    Data: smoke takes scikit-learn's digits; the others Fashion-MNIST, CIFAR-10 (or the sample of it that is there) and questions of
    MMLU, as `heuretic.data.load` finds them.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    if scale not in PLANS:
        raise ValueError(f"scale must be one of {', '.join(PLANS)}, got {scale!r}")
    tasks, default = PLANS[scale]

    def rows(task: Task) -> int:
        return task.batch * (
            1 + task.ratio
        )  # and as many predictions as there are unlabelled rows, which get no gradient

    return check("uda", CLAIM, program, rows, tasks(), scale, default, seeds, progress)


def program(task: Task) -> Any:
    """Return the training program, with the learning rate and the annealing of labels left open."""
    return hr.sym(uda)(
        task.model, task.data, strong=task.strong, augment=task.weak, ratio=task.ratio, annealing=hr.one_of(*task.annealings),
        confidence=task.confidence, **task.shared(),
    )  # fmt: skip


IDEA = Idea(
    slug="uda",
    title="UDA: consistency under strong augmentation",
    paper=Paper(
        authors="Xie, Dai, Hovy, Luong, Le",
        year=2020,
        title="Unsupervised Data Augmentation for Consistency Training",
        arxiv="1904.12848",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\ndata = hr.data.load("fashion-mnist", validation=5_000, labels=250)\n'
        "trained = hr.train.uda(model, data, augment=(hr.data.FlipCrop(),), strong=(hr.data.FlipCrop(), hr.data.RandAugment()))"
    ),
    provides=("heuretic.train:uda", "heuretic.train.consistency:annealing_threshold"),
    reproduce=reproduce,
)

"""Unsupervised data augmentation: predict alike for a row without label and for what strong augmentation makes of it.

Xie et al. 2020, "Unsupervised Data Augmentation for Consistency Training", arXiv:1904.12848. The training is
`heuretic.train.uda`; word replacement, its augmentation of texts, is in `heuretic.data`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import heuretic as hr
from heuretic.ideas.few_labels import Task, check, image_tasks, text_tasks
from heuretic.ideas.idea import Idea, Paper, Scale
from heuretic.ideas.result import Reproduction
from heuretic.train import uda

CLAIM = "with few labels, higher accuracy than learning the labels alone, on images and on texts"


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
    tasks = (*image_tasks(scale), *text_tasks(scale))

    def rows(task: Task) -> int:  # targets of unlabelled rows get no gradient
        return task.batch * (1 + task.ratio)

    return check("uda", CLAIM, program, rows, tasks, scale, seeds, progress)


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

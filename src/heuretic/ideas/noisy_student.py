"""Noisy Student: a student learns under noise what its teacher says of rows without labels, and is the next teacher.

Xie et al. 2019, "Self-training with Noisy Student improves ImageNet classification", arXiv:1911.04252. The training is
`heuretic.train.noisy_student`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import heuretic as hr
from heuretic.ideas.few_labels import Task, check, image_tasks
from heuretic.ideas.idea import Idea, Paper, Scale
from heuretic.ideas.result import Reproduction
from heuretic.train import noisy_student

CLAIM = "with few labels, a noised student is more accurate than the same network that learns the labels alone"


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small network on few labels alone, and as the student of a network of its size that was.

    There is one iteration. The labels alone are learned with weak or with strong augmentation, as is better, by the teacher too;
    the student has strong augmentation. Teacher and student take as many updates each as the network that learns the labels alone.
    The verdict follows from `heuretic.ideas.few_labels.RULE`.

    Data: smoke takes scikit-learn's digits; the others Fashion-MNIST and CIFAR-10, or the sample of it that is there, as
    `heuretic.data.load` finds them.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """

    def rows(task: Task) -> int:
        return task.batch * (2 + task.ratio)  # the teacher's too

    return check("noisy-student", CLAIM, program, rows, image_tasks(scale), scale, seeds, progress)


def program(task: Task) -> Any:
    """Return the training program, with the learning rate and the teacher's augmentation left open."""
    return hr.sym(noisy_student)(
        (task.model, task.model), task.data, noise=task.strong, augment=hr.one_of(task.weak, task.strong),
        ratio=task.ratio, label_smoothing=0.0, **task.shared(),
    )  # fmt: skip


IDEA = Idea(
    slug="noisy-student",
    title="Noisy Student: self-training with a noised student",
    paper=Paper(
        authors="Xie, Luong, Hovy, Le",
        year=2019,
        title="Self-training with Noisy Student improves ImageNet classification",
        arxiv="1911.04252",
    ),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\ndata = hr.data.load("fashion-mnist", validation=5_000, labels=250)\n'
        "trained = hr.train.noisy_student([teacher, student], data, noise=(hr.data.FlipCrop(), hr.data.RandAugment()))"
    ),
    provides=("heuretic.train:noisy_student", "heuretic.train.pseudo_labels:balanced_rows"),
    reproduce=reproduce,
)

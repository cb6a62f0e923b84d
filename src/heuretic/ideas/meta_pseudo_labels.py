"""Meta pseudo labels: a teacher that learns from how much its labels helped the student.

Pham et al. 2020, "Meta Pseudo Labels", arXiv:2003.10580. The training is `heuretic.train.meta_pseudo_labels`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

import heuretic as hr
from heuretic.ideas.few_labels import Task, check, image_task
from heuretic.ideas.idea import Idea, Paper, Scale
from heuretic.ideas.result import Reproduction
from heuretic.train import Constant, Optimization, meta_pseudo_labels

CLAIM = "with few labels, a student of meta pseudo labels is more accurate than the same network that learns the labels alone"
Plan = tuple[Callable[[], tuple[Task, ...]], tuple[int, ...]]
#: By scale: what makes the tasks, and the seeds. A shorter "small", of 400 to 800 steps, was run first, with the seeds 1 to 4.
PLANS: Mapping[Scale, Plan] = {
    "smoke": (lambda: (image_task("digits", labels=50, validation=300, steps=20, lrs=(0.01,), width=4),), (1, 2)),
    "small": (
        lambda: (
            image_task("fashion-mnist", labels=250, validation=2_000, steps=1_500, lrs=(0.005, 0.01)),
            image_task("cifar10", labels=1_000, validation=2_000, steps=500, lrs=(0.003, 0.006)),
        ),
        (11, 12, 13, 14, 15),
    ),
    "full": (
        lambda: (
            image_task("fashion-mnist", labels=250, validation=5_000, steps=20_000, lrs=(0.001, 0.003, 0.01), width=64, ratio=7, cpu=False),
            image_task("cifar10", labels=4_000, validation=5_000, steps=50_000, lrs=(0.001, 0.003, 0.01), width=64, ratio=7, cpu=False),
        ),
        (1, 2, 3, 4, 5),
    ),
}  # fmt: skip
#: Share of the updates that finetune the student on labels.
FINETUNING = 0.1


def reproduce(
    scale: Scale = "smoke", *, seeds: Sequence[int] | None = None, progress: Callable[[str], None] | None = None
) -> Reproduction:
    """Train a small network on few labels alone, and as the student of a teacher of its size that learns beside it.

    The labels alone are learned with weak or with strong augmentation, as is better; the weight of the teacher's consistency is 1
    or 3. The student's updates, finetuning on labels among them, are as many as those of the network that learns the labels alone.
    The verdict follows from `heuretic.ideas.few_labels.RULE`.

    Data: smoke takes scikit-learn's digits; the others Fashion-MNIST and CIFAR-10, or the sample of it that is there, as
    `heuretic.data.load` finds them.
    Raises: FileNotFoundError if a data set is missing, ValueError for an unknown scale or fewer than 2 seeds.
    """
    if scale not in PLANS:
        raise ValueError(f"scale must be one of {', '.join(PLANS)}, got {scale!r}")
    tasks, default = PLANS[scale]

    def rows(task: Task) -> int:
        return task.batch * (1 + 2 * task.ratio)  # teacher and student

    return check("meta-pseudo-labels", CLAIM, program, rows, tasks(), scale, default, seeds, progress)


def program(task: Task) -> Any:
    """Return the training program, with the learning rate and the weight of the teacher's consistency left open."""
    tuned = round(FINETUNING * task.steps)
    loop = hr.replace(task.loop(), {"steps": task.steps - tuned})
    finetuning = hr.sym(Optimization)(
        hr.sym(functools.partial)(torch.optim.AdamW, lr=0.001, weight_decay=0.01), hr.sym(Constant)(), cpu=task.cpu
    )
    return hr.sym(meta_pseudo_labels)(
        task.model, task.model, task.data, strong=task.strong, augment=task.weak, ratio=task.ratio,
        uda_weight=hr.one_of(1.0, 3.0), label_smoothing=0.0, finetuning_steps=tuned, finetuning=finetuning,
        **task.shared() | {"loop": loop},
    )  # fmt: skip


IDEA = Idea(
    slug="meta-pseudo-labels",
    title="Meta Pseudo Labels: the student's feedback to its teacher",
    paper=Paper(authors="Pham, Dai, Xie, Luong, Le", year=2020, title="Meta Pseudo Labels", arxiv="2003.10580"),
    claim=CLAIM,
    usage=(
        'import heuretic as hr\ndata = hr.data.load("fashion-mnist", validation=5_000, labels=250)\n'
        "trained = hr.train.meta_pseudo_labels(\n"
        "    student, teacher, data, augment=(hr.data.FlipCrop(),), strong=(hr.data.FlipCrop(), hr.data.RandAugment())\n)"
    ),
    provides=("heuretic.train:meta_pseudo_labels",),
    reproduce=reproduce,
)

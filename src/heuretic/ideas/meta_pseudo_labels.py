"""Meta pseudo labels: a teacher that learns from how much its labels helped the student.

Pham et al. 2020, "Meta Pseudo Labels", arXiv:2003.10580. The training is `heuretic.train.meta_pseudo_labels`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

import heuretic as hr
from heuretic.ideas.few_labels import Task, check, image_tasks
from heuretic.ideas.idea import Idea, Paper, Scale
from heuretic.ideas.result import Reproduction
from heuretic.train import Constant, Optimization, meta_pseudo_labels

CLAIM = "with few labels, a student of meta pseudo labels is more accurate than the same network that learns the labels alone"
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

    def rows(task: Task) -> int:
        return task.batch * (1 + 2 * task.ratio)  # teacher and student

    return check("meta-pseudo-labels", CLAIM, program, rows, image_tasks(scale), scale, seeds, progress)


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

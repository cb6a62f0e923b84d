"""Meta pseudo labels: a teacher labels rows for a student, and learns from how much they helped it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor, nn

from heuretic.nn.costs import evaluating
from heuretic.train.batches import Inputs, together
from heuretic.train.classification import Classification, cross_entropy, unlabelled_rows
from heuretic.train.consistency import check_positive, check_shares, disagreement, in_one_pass, sharpened
from heuretic.train.loop import Loop, Meter, Reporter
from heuretic.train.optimization import Optimization, Training
from heuretic.train.schedules import Constant
from heuretic.train.seeds import derived_seed
from heuretic.train.training_program import Trained

if TYPE_CHECKING:
    from heuretic.data import DataSet


def _finetuning() -> Optimization:
    return Optimization(functools.partial(torch.optim.SGD, lr=1e-5, momentum=0.9, nesterov=True), Constant())


def meta_pseudo_labels(
    model: nn.Module, teacher: nn.Module, data: DataSet, *, strong: Sequence[Callable[..., Any]],
    optimization: Optimization = Optimization(), teacher_optimization: Optimization | None = None, loop: Loop = Loop(),
    batch: int = 128, ratio: float = 7, augment: Sequence[Callable[..., Any]] = (), wait: float = 0.01, ramp: float = 1 / 60,
    temperature: float = 0.7, confidence: float = 0.6, uda_weight: float = 8.0, feedback: float = 1.0, memory: float = 0.99,
    label_smoothing: float = 0.15, finetuning_steps: int = 1000, finetuning: Optimization | None = None,
    inputs: Inputs | None = None, seed: int = 0, trial: Reporter | None = None, meter: Meter | None = None,
) -> Trained:  # fmt: skip
    """Train `model` on labels that a teacher, trained at the same time, draws for `data.unlabelled`; then finetune it on labels.

    In each step, for labelled rows (x, y) and unlabelled rows u:

    1. Labels of strong(u) are drawn from the teacher's probabilities. The student minimises the cross-entropy with them: one
       update, by which its own cross-entropy on (x, y) falls by h.
    2. The teacher minimises its cross-entropy on (x, y), plus `uda_weight` times how it differs between u and strong(u) (see
       `uda`), plus `feedback` * (h - mean of earlier h) times its cross-entropy with the labels that it drew.

    h stands for the learning rate times the product of the student's two gradients, before and after the update (section 2 of
    the paper): the feedback is the gradient of the student's loss after the update by REINFORCE.

    Args:
        model, teacher: Give logits of shape (batch, classes); both changed in place. `model` is the student.
        strong: Augmentation of the unlabelled rows that the student sees, such as `(FlipCrop(), RandAugment())`.
        optimization: Of the student, and of the teacher unless `teacher_optimization` is given.
        batch: Labelled rows of a step. ratio: Unlabelled rows for each of them.
        augment: Of labelled rows, and of unlabelled ones as the teacher sees them first.
        wait: Share of the steps, at the beginning, in which only the teacher is trained. ramp: Share of the steps in which the
            weight of its consistency rises to `uda_weight`.
        temperature: Of the teacher's targets for itself, > 0. confidence: Least probability of these, after sharpening.
        memory: Decay of the moving average of h, in [0, 1).
        label_smoothing: Share of labels that is spread over all classes, in [0, 1).
        finetuning_steps: Updates on labelled rows at the end, of a copy of the student, by `finetuning`; 0 for none.
            Default: SGD at a rate of 1e-5.
        inputs: Makes what the models are given. Default: images, normalised.
        seed: Of everything random but the weights of the models. trial, meter: See `Loop.run`.
    Returns: The student with "validation_loss" in nats and "validation_accuracy", those of the teacher as
        "teacher_validation_...", if there are validation rows.
    Raises: ValueError if there are no unlabelled rows, or a number is out of range.

    Reference: Pham et al. 2020, "Meta Pseudo Labels", arXiv:2003.10580, and its code (google-research/meta_pseudo_labels), whose
    settings for CIFAR-10 with 4,000 labels are the defaults. Departures: labels are drawn, as in the paper; in the code they are
    the teacher's probabilities, with which the feedback has no gradient, and h has the other sign. h is measured in evaluation
    mode, on both sides of the update alike. The student is normalised by its own rows only, not with labelled ones among them.
    """
    check_shares(wait=wait, ramp=ramp, confidence=confidence, memory=memory)
    check_positive(temperature=temperature, ratio=ratio)
    if any(each is not None and each.accumulate > 1 for each in (optimization, teacher_optimization)):
        raise ValueError(
            "batches of meta pseudo labels are not split, so accumulate must be 1. Try a smaller batch or ratio"
        )
    rows, waiting = unlabelled_rows(data), round(wait * loop.steps)
    student = optimization.start(model.train(), max(1, loop.steps - waiting))
    guide = (teacher_optimization or optimization).start(teacher.train(), loop.steps)
    learning = Learning(
        student=student, teacher=guide, baseline=Baseline(memory), waiting=waiting, ramp=round(ramp * loop.steps), temperature=temperature,
        confidence=confidence, uda_weight=uda_weight, feedback=feedback, label_smoothing=label_smoothing,
    )  # fmt: skip
    task = Classification(data, inputs, student.device)
    batches = together(
        task.batches(data.train, batch, seed, augment),
        task.views(rows, max(1, round(ratio * batch)), derived_seed(seed, "unlabelled"), augment, strong),
    )
    runs = [
        loop.within("0-pseudo-labels").run(
            learning, batches, seed=seed, state={"student": student, "teacher": guide, "baseline": learning.baseline},
            evaluate=task.validation(student), trial=trial, meter=meter,
        )
    ]  # fmt: skip
    if finetuning_steps:
        copied = copy.deepcopy(student.averaged).requires_grad_(True).train()
        student = (finetuning or _finetuning()).start(copied, finetuning_steps, cross_entropy(label_smoothing))
        own = derived_seed(seed, "finetuning")
        loop = replace(loop.within("1-finetuning"), steps=finetuning_steps)
        labelled = task.batches(data.train, batch, own, augment)
        runs.append(loop.run(student, labelled, seed=own, evaluate=task.validation(student), meter=meter))
    trained = task.trained(student, *runs)
    measured = task.measure(guide.averaged, data.validation) if data.validation is not None else {}
    return replace(
        trained, metrics=trained.metrics | {f"teacher_validation_{name}": value for name, value in measured.items()}
    )


class Baseline:
    """The moving mean of the feedback, which is taken off it so that the labels of a step are judged by those of others."""

    def __init__(self, memory: float) -> None:
        self.memory, self.mean = memory, torch.zeros(())

    def __call__(self, value: Tensor) -> Tensor:
        """Take in a value and return what it is above the mean."""
        self.mean = self.memory * self.mean.to(value.device) + (1 - self.memory) * value
        return value - self.mean

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: Any) -> None:
        self.mean = state["mean"]


@dataclass(slots=True, kw_only=True)
class Learning:
    """One step of student and teacher, for `Loop.run`; see `meta_pseudo_labels`. "loss" is the sum of both losses.

    Attributes:
        waiting: Steps before the student begins. ramp: Steps in which the weight of the consistency rises.
    """

    student: Training
    teacher: Training
    baseline: Baseline
    waiting: int = 0
    ramp: int = 0
    temperature: float = 0.7
    confidence: float = 0.6
    uda_weight: float = 8.0
    feedback: float = 1.0
    label_smoothing: float = 0.0

    def __call__(self, batch: Any, step: int) -> dict[str, Tensor | float]:
        (x, y), (plain, changed) = batch
        with self.teacher.autocast():
            known, seen, logits = in_one_pass(self.teacher.network, x, plain, changed)
        supervised = F.cross_entropy(known, y, label_smoothing=self.label_smoothing)
        target = sharpened(seen, self.temperature)
        agreement = disagreement(target, logits, (target.amax(1) >= self.confidence).float())
        loss = supervised + self.uda_weight * min(1.0, step / max(1, self.ramp)) * agreement
        measures: dict[str, Tensor | float] = {
            "teacher_supervised": supervised.detach(),
            "disagreement": agreement.detach(),
        }
        pseudo = torch.zeros((), device=loss.device)
        if step >= self.waiting:
            # A teacher that has diverged is for the loop to report, by its loss.
            labels = torch.multinomial(logits.detach().softmax(1).nan_to_num(1.0), 1)[:, 0]
            pseudo, gain = self.teach(changed, labels, x, y, step - self.waiting)
            signal = self.baseline(gain)
            loss = loss + self.feedback * signal * F.cross_entropy(logits, labels)
            measures |= {"student": pseudo, "gain": gain, "signal": signal}
        self.teacher.backward(loss)
        self.teacher.finish(step)
        return measures | {"loss": loss.detach() + pseudo}

    def teach(self, inputs: Tensor, labels: Tensor, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Update the student by pseudo labels; return its loss on them, and by how much its loss on labelled rows fell."""
        with self.student.autocast():
            logits = self.student.network(inputs).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        before = self._on_labels(x, y)
        self.student.backward(loss)
        self.student.finish(step)
        fallen = before - self._on_labels(x, y)
        gain: Any = reduce(fallen, "mean")  # each process has a share of the rows
        return loss.detach(), gain

    def _on_labels(self, x: Tensor, y: Tensor) -> Tensor:
        with evaluating(self.student.model), torch.no_grad(), self.student.autocast():
            return F.cross_entropy(self.student.model(x).float(), y)

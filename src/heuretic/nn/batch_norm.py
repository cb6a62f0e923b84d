"""Batch normalisation with a second set of statistics, for examples from another distribution than the main one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class AuxiliaryBatchNorm(_BatchNorm):
    """Batch normalisation, of any rank, that normalises by a set of statistics and weights of its own where that is asked for.

    It is asked for by `auxiliary_statistics`. The main set has the names of plain batch normalisation, so checkpoints
    of the model before fit; what they lack, the auxiliary set, then begins as a copy of the main one.

    Args:
        num_features, eps, momentum, affine, track_running_stats: As of `nn.BatchNorm2d`.
        after: What is done to either's output, such as an activation.
    Reference: Xie et al. 2019, "Adversarial Examples Improve Image Recognition", arXiv:1911.09665, section 4.2.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, after: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.auxiliary = _AnyRank(num_features, eps, momentum, affine, track_running_stats)
        self.is_auxiliary = False
        self.after = after

    def forward(self, input: Tensor) -> Tensor:
        x = self.auxiliary(input) if self.is_auxiliary else super().forward(input)
        return x if self.after is None else self.after(x)

    def _check_input_dim(self, input: Tensor) -> None:
        _check_rank(input)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any, unexpected_keys: Any,
        error_msgs: Any,
    ) -> None:  # fmt: skip
        for name in [*self._parameters, *self._buffers]:
            if prefix + name in state_dict:
                state_dict.setdefault(f"{prefix}auxiliary.{name}", state_dict[prefix + name])
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


class _AnyRank(_BatchNorm):
    """Batch normalisation of input of any rank from 2."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_rank(input)


def _check_rank(input: Tensor) -> None:
    if input.dim() < 2:
        raise ValueError(f"input must have at least 2 axes, batch and features, got shape {tuple(input.shape)}")


@contextmanager
def auxiliary_statistics(model: nn.Module) -> Iterator[None]:
    """Let the batch normalisations of `model` use their auxiliary statistics and weights inside the block.

    Not for calls of one model in several threads at once.
    Raises: ValueError if the model has none. Try hr.apply(model, "advprop").
    """
    norms = [part for part in model.modules() if isinstance(part, AuxiliaryBatchNorm)]
    if not norms:
        raise ValueError('model must have auxiliary batch normalisation, got none. Try hr.apply(model, "advprop")')
    before = [norm.is_auxiliary for norm in norms]
    try:
        for norm in norms:
            norm.is_auxiliary = True
        yield
    finally:
        for norm, was in zip(norms, before, strict=True):
            norm.is_auxiliary = was

"""`describe`: what a network is made of, part by part, as a table, a picture and a record."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from heuretic.nn.costs import evaluating, without_weights
from heuretic.nn.description.architecture_picture import picture
from heuretic.nn.description.example_inputs import Input, made_input
from heuretic.nn.description.module_costs import ModuleCosts, fork_random, module_costs
from heuretic.nn.description.module_table import html_table, plain_table, rich_table, table_rows
from heuretic.nn.description.quantities import binary
from heuretic.nn.description.shapes import Shapes, shape_text, shapes
from heuretic.nn.latency import Timing, measure
from heuretic.symbolic import build

if TYPE_CHECKING:
    from rich.console import RenderableType


def describe(
    model: Any, input: Input | None = None, *, latency: bool = False, depth: int | None = None, name: str = ""
) -> Description:
    """Run a model once and report for each of its modules what goes out of it and what it costs.

    The run is in eval mode; afterwards the modes are as they were, and so is the random state. Where the model lies on
    the meta device, nothing is computed.

    Args:
        model: A module of any origin, or a complete program of one. A program is built on the meta device, without
            weights, unless latency is asked for; where its code looks at values, describe `hr.build(program)`. A module
            with lazy layers is copied, and stays lazy.
        input: The shape of a tensor of zeros (floating, or tokens for models that take those); a tensor; a tuple or list
            of tensors; or a mapping of arguments by name, such as `{"pixel_values": images}`. Default: from the model's
            configuration or its first layer, else (1, 3, 224, 224).
        latency: Also time forward passes, on one thread: `heuretic.nn.measure`.
        depth: Of the table: modules so far below the root are listed, those further down are summed. Default: what fits
            into 40 rows.
        name: What to call the model. Default: the name of its class.

    What is counted:
        parameters: Those shared by several modules once. They stand with each of the modules, so rows need not add up.
        multiply-adds: Those of `heuretic.nn.MultiplyAdds`, at the innermost module whose code does them.
        activations: Bytes that stay in memory for the backward pass: of every tensor that autograd keeps and that was made
            in the run, the whole memory it is a view of, once, at the innermost module that made it. So there is nothing
            for the input, for weights, for outputs that no gradient needs, and for modules that work in place or
            hand on their input; with frozen weights there is less. Beyond it, training keeps masks of dropout and the
            statistics of batch normalisation. On the meta device attention is taken for fused.
        calls: At each place of a module on its own; one that stands in two places is called at that nearest to the
            caller. The output is that of the first call.

    Raises: TypeError if `model` is neither module nor program of one; OpenChoiceError if choices are open; ValueError for
        the latency of a module on the meta device; whatever the model raises, with a note of the part that was running.
    """
    module = _module(model, latency)
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("model must be a module in Python, got a ScriptModule. Try the module that it was made from")
    args, kwargs = made_input(module, input)
    if latency and any(p.is_meta for p in module.parameters()):
        raise ValueError("latency must be measured on a model with weights, got one on the meta device")
    costs = module_costs(module, args, kwargs)
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers()) if not is_lazy(t)}
    given = kwargs if kwargs else args[0] if len(args) == 1 else args
    return Description(
        name or costs.kind, costs, shapes(given), sum(buffer.numel() for buffer in module.buffers() if not is_lazy(buffer)),
        sum(t.numel() * t.element_size() for t in tensors.values()),
        _timing(module, args, kwargs) if latency else None, depth,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Description:
    """What `describe` found. Printed, it is a table; in a notebook, a picture with the table below it.

    Attributes:
        root: The model, with all modules below it. input: Shapes of what it was run with.
        buffers: Numbers in buffers. weight_bytes: Memory of parameters and buffers. latency: If it was asked for.
        depth: Of the table; None for what fits into 40 rows.
    """

    name: str
    root: ModuleCosts
    input: Shapes
    buffers: int
    weight_bytes: int
    latency: Timing | None = None
    depth: int | None = None

    @property
    def parameters(self) -> int:
        """Numbers in all parameters."""
        return self.root.parameters

    @property
    def trainable(self) -> int:
        """Numbers in parameters that ask for gradients."""
        return self.root.trainable

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of the run."""
        return self.root.multiply_adds

    @property
    def activation_bytes(self) -> int:
        """What autograd keeps for the backward pass of this batch."""
        return self.root.activation_bytes

    def modules(self) -> Iterator[ModuleCosts]:
        """Yield every place in the tree, parents first."""
        return self.root.walk()

    def record(self) -> dict[str, Any]:
        """Return everything as values for JSON; `modules` is the tree in one list, sums of what is below included."""
        low, high = self.latency.interval_ms if self.latency else (0.0, 0.0)
        return {
            "model": self.name, "input": self.input, "parameters": self.parameters, "trainable": self.trainable,
            "buffers": self.buffers, "weight_bytes": self.weight_bytes, "multiply_adds": self.multiply_adds,
            "activation_bytes": self.activation_bytes,
            "latency_ms": self.latency and {"median": self.latency.median_ms, "low": low, "high": high},
            "modules": [_record(part) for part in self.modules()],
        }  # fmt: skip

    def summary(self) -> list[str]:
        """Return the totals as lines of text."""
        frozen = self.parameters - self.trainable
        lines = [
            f"parameters {self.parameters:,}{f', {frozen:,} of them frozen' if frozen else ''}; "
            f"buffers {self.buffers:,}; together {binary(self.weight_bytes)}",
            f"multiply-adds {self.multiply_adds:,}; activations {binary(self.activation_bytes)}, "
            f"input {shape_text(self.input)}",
        ]
        return [*lines, f"latency {self.latency}, on one thread"] if self.latency else lines

    def text(self, depth: int | None = None) -> str:
        """Return the table and the totals as plain text. Default: `depth` of the description.

        Neighbours that look alike as far down as the table goes are one row, with the sums of all.
        """
        rows = table_rows(self.root, self.name, self.depth if depth is None else depth)
        return "\n".join([plain_table(rows), "", *self.summary()])

    def svg(self) -> str:
        """Return a picture of the architecture as SVG, which needs no script and no network, and can stand in a page.

        Each layer is a slab, as high as its output has places along a side and as thick as it has channels. An arc
        leads around what a tensor is added to that it was computed from, as in `heuretic.nn.Residual`. Repeated blocks
        that are alike are drawn once if there is no room for all. Bars below show shares of the costs.
        """
        latency = f"latency {self.latency.median_ms:.3g} ms" if self.latency else ""
        return picture(self.root, self.input, self.name, latency)

    def html(self) -> str:
        """Return one self-contained page: the picture and the table."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.name)}</title><style>'
            "body{font:15px/1.5 system-ui,sans-serif;max-width:1250px;margin:2em auto;padding:0 1em;color:#1d2330;"
            "background:#fff}@media(prefers-color-scheme:dark){body{color:#dde2ea;background:#14171c}}</style></head>"
            f"<body>{self._html(is_open=True)}</body></html>\n"
        )

    def _repr_html_(self) -> str:
        return self._html(is_open=False)

    def _html(self, *, is_open: bool) -> str:
        summary = "".join(f"<div>{escape(line)}</div>" for line in self.summary())
        return (
            f'<div>{self.svg()}<details{" open" * is_open}><summary>Modules</summary><div style="overflow-x:auto">'
            f"{html_table(table_rows(self.root, self.name, self.depth))}</div>"
            f'<div style="font-size:13px;margin-top:8px">{summary}</div></details></div>'
        )

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        table = rich_table(table_rows(self.root, self.name, self.depth))
        return Group(table, Text(""), *map(Text, self.summary()))

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def _module(model: Any, is_timed: bool) -> nn.Module:
    """Return what to run: a module of its own if running it would change the model."""
    if isinstance(model, nn.Module):
        return copy.deepcopy(model) if any(map(is_lazy, model.parameters())) else model
    if not is_timed:
        return without_weights(model)
    with torch.random.fork_rng(devices=[]):  # weights are drawn, but not out of somebody's sequence
        torch.manual_seed(0)
        return without_weights(build(model))


def _timing(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timing:
    is_cuda = any(p.is_cuda for p in module.parameters())

    def run() -> None:
        module(*args, **kwargs)
        if is_cuda:
            torch.cuda.synchronize()

    with evaluating(module), fork_random(module):
        return measure(run)


def _record(part: ModuleCosts) -> dict[str, Any]:
    return {
        "path": part.path, "class": part.kind, "settings": part.settings, "output": part.output,
        "parameters": part.parameters, "trainable": part.trainable, "multiply_adds": part.multiply_adds,
        "activation_bytes": part.activation_bytes, "calls": part.calls, "same_as": part.first_path or None,
        "is_residual": part.is_residual,
    }  # fmt: skip

"""EfficientNets and conditional convolutions: time and memory beside timm, torchvision and what one would write by hand.

OMP_WAIT_POLICY=passive python benchmarks/vision.py [--quick] [--json OUT] [--only WORD] [--device cuda]

Without the setting, threads that wait for one another take the processor from those they wait for, wherever something else
runs on the machine: two threads can then be fifty times slower than one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heuretic.nn as hn
from heuretic import __version__

#: What takes turns: by name, what makes the function that is timed.
Makers = Mapping[str, Callable[[], Callable[[], Any]]]
Format = Literal["contiguous", "channels_last"]
FORMATS: tuple[Format, ...] = ("contiguous", "channels_last")


def build(library: str, name: str) -> nn.Module:
    """Return a model with random weights, nothing of it dropped but the same share of features.

    Args:
        library: "heuretic" or "again", "timm" or "torchvision". name: That of ours.
    """
    if library == "timm":
        import timm

        return timm.create_model(TIMM.get(name, name), drop_rate=0.2)
    if library == "torchvision":
        from torchvision import models

        return getattr(models, name)(**({} if name.startswith("resnet") else {"stochastic_depth_prob": 0.0}))
    return getattr(hn, name)(**({} if name.startswith("resnet") else {"stochastic_depth": 0.0}))


#: Padded as ours: its `tf_*` models do more work.
TIMM = {"efficientnet_v2_s": "efficientnetv2_s", "condconv_efficientnet_b0": "efficientnet_cc_b0_8e"}


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure.

    Args:
        threads, clock: On a CPU, one thread and its CPU time disturb and are disturbed least.
        instances: How often contestants are made anew: where their memory lies is worth some percent by itself.
        rounds: Of each instance.
    """

    device: str = "cpu"
    threads: int = 1
    clock: Literal["cpu", "wall"] = "cpu"
    instances: int = 3
    rounds: int = 8

    def turns(self, makers: Makers, instances: int | None = None, rounds: int | None = None) -> hn.Turns:
        """Return the times of what the makers make, all measured in turn, in all instances together."""
        times: dict[str, tuple[float, ...]] = dict.fromkeys(makers, ())
        for seed in range(instances or self.instances):
            order = list(makers)
            Random(seed).shuffle(order)
            functions = {name: self._waited_for(makers[name]()) for name in order}
            turns = hn.interleaved(
                functions, threads=self.threads, warmup=1, rounds=rounds or self.rounds, seed=seed, clock=self.clock
            )
            times = {name: taken + turns.timings[name].times_ms for name, taken in times.items()}
        return hn.Turns({name: hn.Timing(taken) for name, taken in times.items()})

    def _waited_for(self, function: Callable[[], Any]) -> Callable[[], Any]:
        if self.device == "cpu":
            return function

        def run() -> None:
            function()
            torch.cuda.synchronize()

        return run


def outside(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function without the inference mode in which it will be called."""

    def run() -> None:
        with torch.inference_mode(False), torch.enable_grad():
            function()

    return run


# -- models ---------------------------------------------------------------------------------------------------------

#: Batch and side of images, by model, on a CPU and on a GPU.
IMAGES = {
    "efficientnet_b0": {"cpu": (4, 128), "cuda": (128, 224)},
    "efficientnet_v2_s": {"cpu": (4, 128), "cuda": (64, 224)},
    "condconv_efficientnet_b0": {"cpu": (8, 128), "cuda": (128, 224)},
}


def placed(value: Any, device: str, layout: Format) -> Any:
    """Return a module or images on a device, in a format."""
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    return value.to(device).to(memory_format=formats[layout])


def images_for(name: str, device: str, layout: Format) -> Tensor:
    """Return images of noise."""
    batch, side = IMAGES[name][device]
    return placed(torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)), device, layout)


def forward(
    library: str, name: str, device: str, layout: Format, amp: bool, compiled: bool = False
) -> Callable[[], Any]:
    """Return one pass forward, in eval mode."""
    model: Any = placed(build(library, name), device, layout)
    x = images_for(name, device, layout)
    settle(model, x)
    if compiled:
        model = torch.compile(model)

    def run() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            model(x)

    return run


def settle(model: nn.Module, x: Tensor) -> None:
    """Give batch normalisation the statistics of the images, and leave the model in eval mode.

    Without, signals fade in networks with random weights, down to numbers so small that processors take much longer.
    """
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    model.eval()


def training_step(library: str, name: str, device: str, layout: Format, amp: bool) -> Callable[[], Any]:
    """Return one pass forward and back and one step of stochastic gradient descent."""
    model = placed(build(library, name), device, layout).train()
    x = images_for(name, device, layout)
    labels = torch.arange(len(x), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()

    return outside(run)


def contestants(make: Callable[..., Any], name: str, *settings: Any) -> Makers:
    """Return ours, ours again (the differences that mean nothing), and the libraries that are installed."""
    return {library: partial(make, library, name, *settings) for library in ("again", *libraries_of(name))}


def libraries_of(name: str) -> list[str]:
    """Return ours and those of the installed ones that have the model."""
    others = ("timm",) if name.startswith("condconv") else ("timm", "torchvision")
    return ["heuretic", *(library for library in others if installed(library))]


# -- conditional convolutions --------------------------------------------------------------------------------------------

#: Channels in and out, kernel, stride, groups, side of the images.
LAYERS = {
    "1 x 1, 112 to 672, 14 x 14": (112, 672, 1, 1, 1, 14),
    "1 x 1, 672 to 112, 14 x 14": (672, 112, 1, 1, 1, 14),
    "5 x 5 depthwise, 672, 14 x 14": (672, 672, 5, 1, 672, 14),
    "5 x 5 depthwise, 672, 14 x 14, stride 2": (672, 672, 5, 2, 672, 14),
    "3 x 3, 64, 28 x 28": (64, 64, 3, 1, 1, 28),
    "3 x 3, 256, 14 x 14": (256, 256, 3, 1, 1, 14),
}
BATCHES = (1, 8, 32)
WAYS = ("heuretic", "grouped", "loop")


def convolution(
    way: str, layer: str, batch: int, device: str = "cpu", layout: Format = "contiguous", training: bool = False
) -> Callable[[], Any]:
    """Return one pass of a conditional convolution forward, in training back too.

    Args:
        way: "heuretic"; "grouped", one convolution with a group for each example, as timm has it; or "loop", over
            examples.
    """
    channels, out, kernel, stride, groups, side = LAYERS[layer]
    module = hn.CondConv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False, routing=False)
    module.to(device)
    x = placed(torch.randn(batch, channels, side, side), device, layout).requires_grad_(training)
    weights = torch.rand(batch, module.experts, device=device)
    run = {"heuretic": module, "grouped": partial(_grouped, module), "loop": partial(_loop, module)}[way]
    if not training:
        return lambda: run(x, weights)
    return outside(lambda: run(x, weights).sum().backward())


def _kernels(module: hn.CondConv2d, weights: Tensor) -> Tensor:
    shape = module.out_channels, module.in_channels // module.groups, *module.kernel_size
    return (weights @ module.weight).view(-1, *shape)


def _grouped(module: hn.CondConv2d, x: Tensor, weights: Tensor) -> Tensor:
    batch, kernels = len(x), _kernels(module, weights).flatten(0, 1)
    y = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), kernels, None, module.stride, module.padding, module.dilation, batch * module.groups
    )  # fmt: skip
    return y.view(batch, -1, *y.shape[2:])


def _loop(module: hn.CondConv2d, x: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([
        F.conv2d(example, kernel, None, module.stride, module.padding, module.dilation, module.groups)
        for example, kernel in zip(x.split(1), _kernels(module, weights), strict=True)
    ])  # fmt: skip


# -- memory -----------------------------------------------------------------------------------------------------------


def peaks_mb(work: str, *settings: str | int) -> list[float]:
    """Return by how many MB new processes that do the work exceed what their imports take: medians of three peaks.

    Args:
        work: "model" for a step of training; "convolution" for passes forward, and then forward and back.
    """
    command, peaks = [sys.executable, __file__, "--work", work, *map(str, settings)], []
    for _ in range(3):
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(f"{work} {settings} failed: {found.stderr[-2000:]}")
        peaks.append(json.loads(found.stdout))
    return [median(values) for values in zip(*peaks, strict=True)]


def _work(work: str, device: str, *settings: str) -> None:
    """Do work in this process, and print its peaks of memory in MB, less that of the imports."""
    torch.set_num_threads(1)
    if work == "convolution":
        way, layer, batch = settings
        make = partial(convolution, way, layer, int(batch), device)
        makers = [make, partial(make, training=True)]
    else:
        with torch.device("meta"):
            build(*settings)  # imports what it needs
        makers = [partial(training_step, *settings, device, "contiguous", False)]
    before, peaks = _peak(device), []
    for make in makers:
        run = make()
        with torch.inference_mode():
            for _ in range(3):
                run()
        peaks.append((_peak(device) - before) / 1e6)
    print(json.dumps(peaks))


def _peak(device: str) -> float:
    """Return the highest number of bytes this process has held so far.

    That of getrusage would be wrong: it begins with what the process that started this one held.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


# -- table ------------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """Prints rows and keeps them for the JSON file."""

    only: str
    rows: list[dict[str, Any]]

    def wants(self, section: str, text: str) -> bool:
        """Whether the row was asked for."""
        return self.only in f"{section}: {text}"

    def times(self, section: str, text: str, bench: Bench, turns: hn.Turns, images: int | None = None) -> None:
        """Show the median of ours, and how many times as long each of the others took, with the interval."""
        timings = turns.timings
        others = {name: turns.ratio(name, "heuretic") for name in timings if name != "heuretic"}
        ratios = "  ".join(f"{name} {m:.2f}x [{low:.2f}, {high:.2f}]" for name, (m, low, high) in others.items())
        print(f"{section:10}{text:54}{timings['heuretic'].median_ms:9.2f} ms  {ratios}", flush=True)
        row: dict[str, Any] = {"section": section, "row": text, "threads": bench.threads, "clock": bench.clock}
        row["ms"] = {name: round(timing.median_ms, 3) for name, timing in timings.items()}
        if images:
            row["images_per_s"] = {name: round(1e3 * images / ms, 2) for name, ms in row["ms"].items()}
        row["times_ours"] = {name: [round(value, 3) for value in ratio] for name, ratio in others.items()}
        self.rows.append(row)

    def memory(self, text: str, peaks: Mapping[str, float]) -> None:
        """Show peaks of memory in MB."""
        shown = "  ".join(f"{name} {peak:.1f}" for name, peak in peaks.items())
        print(f"{'memory':10}{text:54}{'MB':>12}  {shown}", flush=True)
        self.rows.append({"section": "memory", "row": text, "mb": {name: round(mb, 1) for name, mb in peaks.items()}})


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def measure_builds(table: Table, bench: Bench) -> None:
    """Measure how long it takes to make models."""
    for name in ("efficientnet_b0", "efficientnet_v2_s", "resnet50"):
        if table.wants("build", name):
            # what is timed is the making itself, so nothing is to be made before
            makers = {library: partial(outside, partial(build, library, name)) for library in libraries_of(name)}
            table.times("build", name, bench, bench.turns(makers, instances=1, rounds=2 * bench.rounds))


def measure_models(table: Table, bench: Bench, precisions: Mapping[str, bool]) -> None:
    """Measure passes forward, steps of training, and compiled passes."""
    device, single = bench.device, bench.threads == 1
    for name, layout, precision in product(IMAGES, FORMATS, precisions):
        batch, side = IMAGES[name][device]
        text = f"{name}, {batch} x {side}, {layout}, {precision}, {bench.threads} thread{'s' * (not single)}"
        settings = device, layout, precisions[precision]
        if table.wants("forward", text) and (single or name != "condconv_efficientnet_b0"):
            table.times("forward", text, bench, bench.turns(contestants(forward, name, *settings)), batch)
        if table.wants("training", text) and name != "condconv_efficientnet_b0":
            turns = bench.turns(contestants(training_step, name, *settings), rounds=max(2, bench.rounds // 2))
            table.times("training", text, bench, turns, batch)
        if table.wants("compiled", text) and single and name == "efficientnet_b0":
            turns = bench.turns(contestants(forward, name, *settings, True), instances=1, rounds=3 * bench.rounds)
            table.times("compiled", text, bench, turns, batch)


def measure_convolutions(table: Table, bench: Bench) -> None:
    """Measure ways to convolve each example with a kernel of its own."""
    for layer, batch, layout, kind in product(LAYERS, BATCHES, FORMATS, ("forward", "training")):
        text = f"{layer}, batch {batch}, {layout}, {kind}"
        if table.wants("condconv", text):
            settings = layer, batch, bench.device, layout, kind == "training"
            makers = {way: partial(convolution, way, *settings) for way in WAYS}
            table.times(
                "condconv", text, bench, bench.turns(makers, rounds=max(3, 2 * bench.rounds // (1 + batch // 8)))
            )


def measure_memory(table: Table, device: str) -> None:
    """Measure peaks of memory."""
    for name in ("efficientnet_b0", "efficientnet_v2_s"):
        if table.wants("memory", name):
            peaks = {library: peaks_mb("model", device, library, name)[0] for library in libraries_of(name)}
            table.memory(f"{name}, training step", peaks)
    for layer, batch in product(LAYERS, BATCHES):
        text = f"{layer}, batch {batch}"
        if table.wants("memory", text):
            both = {way: peaks_mb("convolution", device, way, layer, batch) for way in WAYS}
            for number, kind in enumerate(("forward", "training")):
                table.memory(f"{text}, {kind}", {way: peaks[number] for way, peaks in both.items()})


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures here")
    parser.add_argument("--only", default="", help="only rows whose 'section: text' contains this")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return _work(*arguments.work)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch finds, got none")
    if arguments.device == "cuda":
        benches, precisions = [Bench("cuda", clock="wall")], {"float32": False, "bfloat16": True}
    else:
        benches, precisions = [Bench(), Bench(threads=2, clock="wall")], {"float32": False}
    if arguments.quick:
        benches = [replace(bench, instances=1, rounds=4) for bench in benches]
    libraries = {name: installed(name) for name in ("torch", "timm", "torchvision")}
    versions = {"python": platform.python_version(), "heuretic": __version__, **libraries}
    print(" ".join(f"{name} {number}" for name, number in versions.items()), arguments.device)
    print("medians of ours, then how many times as long the others took, with 95% intervals")
    table = Table(arguments.only, [])
    measure_builds(table, benches[0])
    for bench in benches:
        measure_models(table, bench, precisions)
    measure_convolutions(table, benches[0])
    measure_memory(table, arguments.device)
    if arguments.json:
        waiting = os.environ.get("OMP_WAIT_POLICY")
        found = {"versions": versions, "device": arguments.device, "omp_wait_policy": waiting, "rows": table.rows}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Lion in C for CPUs (`lion.c`): one pass over memory, where torch operations take five over the cache."""

from __future__ import annotations

import ctypes
import functools
import threading
from array import array
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from heuretic.data import c_library
from heuretic.train.optimizers.blockwise import block_count
from heuretic.train.optimizers.lion_update import Entry, are_channels_last, is_plain

_SOURCE = Path(__file__).with_name("lion.c")
_F, _B, _D = torch.float32, torch.bfloat16, torch.float64
#: dtypes of weights and momenta, by the number that `lion.c` gives their function.
KINDS = {(_F, _F): 0, (_F, _B): 1, (_B, _B): 2, (_B, _F): 3, (_D, _D): 4, (_F, torch.int8): 5, (_B, torch.int8): 6}
#: Weights from which on a further thread is worth starting.
_PER_THREAD = 1 << 20


def unavailable() -> str:
    """Compile and load the kernel, the first time. Return why that failed, or "" if it did not."""
    return c_library.unavailable(_SOURCE)


@functools.cache
def _compiled() -> Callable[..., None]:
    function = c_library.compiled(_SOURCE).lion
    function.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 3, *[ctypes.c_double] * 4]
    function.restype = None
    return function


def sorted_out(entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries that the kernel can update, and the others: of other dtypes or layouts, or of classes of their own.

    The entries have the same dtypes.
    """
    p, g, m, _ = entries[0]
    if (p.dtype, m.dtype) not in KINDS or g.dtype is not p.dtype:
        return [], entries
    fitting, others = [], []
    for entry in entries:
        (fitting if _fits(*entry) else others).append(entry)
    return fitting, others


def _fits(p: Tensor, g: Tensor, m: Tensor, scales: Tensor | None) -> bool:
    if not is_plain(p):
        return False
    if m.shape != p.shape or g.shape != p.shape or m.device != p.device:  # torch says what is wrong with them
        return False
    if scales is not None and len(scales) != block_count(p.numel()):
        return False
    if p.is_contiguous() and g.is_contiguous() and m.is_contiguous():
        return True
    return scales is None and are_channels_last(p, g, m)


def update_by_kernel(entries: list[Entry], *, step: float, decay: float, weight1: float, weight2: float) -> None:
    """Do what `update_together` does, for entries that `sorted_out` approves of."""
    if not entries:
        return
    function = _compiled()
    sizes = array("q", [p.numel() for p, _, _, _ in entries])
    pointers = [array("q", [entry[i].data_ptr() for entry in entries]) for i in range(3)]  # type: ignore[union-attr]
    pointers.append(array("q", [0 if scales is None else scales.data_ptr() for _, _, _, scales in entries]))
    kind, total = KINDS[entries[0][0].dtype, entries[0][2].dtype], sum(sizes)
    count = max(1, min(torch.get_num_threads(), total // _PER_THREAD))
    ends = [total * i // count for i in range(count + 1)]

    def work(begin: int, end: int) -> None:
        addresses = (each.buffer_info()[0] for each in (*pointers, sizes))
        function(len(entries), *addresses, begin, end, kind, step, decay, weight1, weight2)

    # threads of our own, as those of torch cannot be borrowed; they run side by side while they are in C
    others = [threading.Thread(target=work, args=ends[i : i + 2]) for i in range(1, count)]
    for thread in others:
        thread.start()
    work(*ends[:2])
    for thread in others:
        thread.join()
    increment_version([p for p, _, _, _ in entries])

"""What a program is: nodes, fields, symbolic calls, paths, patches, diff, digest and JSON."""

from heuretic.symbolic.adapters import Adapter
from heuretic.symbolic.calls import Call, sym
from heuretic.symbolic.checks import Field
from heuretic.symbolic.codec import dumps, loads
from heuretic.symbolic.diffs import Change, Diff, diff
from heuretic.symbolic.digests import digest
from heuretic.symbolic.errors import (
    FrozenError,
    InvalidField,
    LoadError,
    OpenChoiceError,
    PatchError,
    PatchWarning,
    PathError,
)
from heuretic.symbolic.nodes import Symbolic, field, fields
from heuretic.symbolic.patches import Chain, Patch, Patched, apply, patch_at, patch_name, rule
from heuretic.symbolic.paths import Path
from heuretic.symbolic.trees import build, find, get, open_choices, program_of, replace, walk
from heuretic.symbolic.values import FrozenDict, Open

__all__ = [
    "Adapter", "Call", "Chain", "Change", "Diff", "Field", "FrozenDict", "FrozenError", "InvalidField", "LoadError",
    "Open", "OpenChoiceError", "Patch", "PatchError", "PatchWarning", "Patched", "Path", "PathError", "Symbolic", "apply", "build", "diff",
    "digest", "dumps", "field", "fields", "find", "get", "loads", "open_choices", "patch_at", "patch_name", "program_of", "replace",
    "rule", "sym", "walk",
]  # fmt: skip

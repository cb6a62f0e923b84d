"""Trials as a data frame of pandas or polars."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from heuretic.study.export import columns

if TYPE_CHECKING:
    from heuretic.study.study import Study

#: Fields of which many trials have the same text, and fields of text that may be empty in all trials.
_CATEGORIES, _TEXTS = ("state", "origin", "worker"), ("fingerprint", "error")


def frame(study: Study, kind: Literal["pandas", "polars"] = "pandas") -> Any:
    """Return the trials of a study as a data frame, one row per trial, with the columns of `export.rows`.

    `started` is a time in UTC. Ints stay ints where trials have none (pandas: Int64), and choices among texts are
    categories.

    Raises: ValueError if `kind` is neither; ImportError if the library is missing.
    """
    if kind not in ("pandas", "polars"):
        raise ValueError(f"kind must be 'pandas' or 'polars', got {kind!r}")
    try:
        library: Any = import_module(kind)
    except ImportError:
        raise ImportError(f"a data frame needs {kind}. Try: pip install 'heuretic[frames]'") from None
    table = columns(study)
    make = _pandas_column if kind == "pandas" else _polars_column
    typed = {name: make(library, name, table.pop(name)) for name in list(table)}  # never all columns twice
    return library.DataFrame(typed, copy=False) if kind == "pandas" else library.DataFrame(typed)


def _kind(name: str, values: list[Any]) -> str:
    """Return what a column holds: time, category, text, bool, int, float or nothing."""
    if name == "started":
        return "time"
    if name in _TEXTS:
        return "text"
    known = next((value for value in values if value is not None), None)
    if isinstance(known, str):
        return "category" if name in _CATEGORIES or name.startswith("choice.") else "text"
    return "nothing" if known is None else type(known).__name__


def _pandas_column(pandas: Any, name: str, values: list[Any]) -> Any:
    kind = _kind(name, values)
    if kind == "time":
        return pandas.to_datetime([round(v * 1e6) for v in values], unit="us", utc=True)
    if kind == "category":
        return pandas.Categorical(values)
    if kind == "float":
        return pandas.array([float("nan") if v is None else v for v in values], dtype="float64")
    if kind == "int" and None not in values:
        return pandas.array(values, dtype="int64")
    return pandas.array(values, dtype={"int": "Int64", "bool": "boolean", "text": "string"}.get(kind, "object"))


def _polars_column(polars: Any, name: str, values: list[Any]) -> Any:
    kind = _kind(name, values)
    if kind == "time":
        return polars.Series(name, [round(v * 1e6) for v in values], polars.Int64).cast(polars.Datetime("us", "UTC"))
    types = {
        "category": polars.Categorical, "text": polars.String, "int": polars.Int64, "bool": polars.Boolean,
        "float": polars.Float64,
    }  # fmt: skip
    return polars.Series(name, values, types.get(kind, polars.Null))

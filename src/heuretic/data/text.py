"""Texts: sentences with their translation, questions by field, and running text."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heuretic.data.dataset import DataSet, Parts, Split
from heuretic.data.files import File
from heuretic.data.packed import Texts
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.data.unpacked import Source, unpacked

GROUPS: Mapping[str, str] = {
    "STEM": "abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics "
    "college_physics computer_security conceptual_physics electrical_engineering elementary_mathematics "
    "high_school_biology high_school_chemistry high_school_computer_science high_school_mathematics high_school_physics "
    "high_school_statistics machine_learning",
    "humanities": "formal_logic high_school_european_history high_school_us_history high_school_world_history "
    "international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory "
    "professional_law world_religions",
    "social sciences": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "other": "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
    "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology",
}
"""The 57 subjects of MMLU in the four groups of its authors (github.com/hendrycks/test, categories.py)."""

SUBJECTS = (
    "elementary_mathematics",
    "high_school_biology",
    "high_school_macroeconomics",
    "high_school_psychology",
    "miscellaneous",
    "moral_disputes",
    "moral_scenarios",
    "nutrition",
    "philosophy",
    "prehistory",
    "professional_law",
    "professional_psychology",
)
"""Those with at least 300 questions."""

_GROUP = {subject: number for number, subjects in enumerate(GROUPS.values()) for subject in subjects.split()}


def multi30k(corrupt: Corrupt) -> DataSet[Texts, Texts]:
    """Return Multi30k (Elliott et al. 2016, arXiv:1605.00459): image captions in English, as labels the same in German.

    29,000 pairs to train on, 1,014 to choose by, and of the test sets that of 2016 with 1,000.
    """
    commit = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a"
    published = {
        "train.en": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
        "train.de": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
        "val.en": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
        "val.de": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
        "test_2016_flickr.en": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
        "test_2016_flickr.de": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    }
    texts = tuple(File(f"multi30k_en_de/{name}.txt.gz") for name in published)
    originals = tuple(
        File(f"multi30k_en_de/{name}.gz", (f"{commit}/data/task1/raw/{name}.gz",), sha256)
        for name, sha256 in published.items()
    )
    return unpacked("multi30k", [Source(texts, _read_pairs), Source(originals, _read_pairs)], (), corrupt)


def mmlu_groups(corrupt: Corrupt) -> DataSet[Texts, NDArray[np.int64]]:
    """Return the questions of MMLU's test set (Hendrycks et al. 2021, arXiv:2009.03300), labelled by group of subjects.

    The task is ours: tell from a question, without its answers, whether it is of STEM, the humanities, social sciences or
    other. A question that occurs in several classes is left out, one that occurs more than once in a class is kept once. Every
    fifth is the test, by the sha256 of its text, so it does not depend on the others.
    """
    return _mmlu("mmlu-groups", _GROUP, tuple(GROUPS), corrupt)


def mmlu_subjects(corrupt: Corrupt) -> DataSet[Texts, NDArray[np.int64]]:
    """Return the same of its twelve subjects with at least 300 questions, labelled by subject."""
    return _mmlu("mmlu-subjects", {subject: k for k, subject in enumerate(SUBJECTS)}, SUBJECTS, corrupt)


def _mmlu(
    name: str, classes: Mapping[str, int], names: tuple[str, ...], corrupt: Corrupt
) -> DataSet[Texts, NDArray[np.int64]]:
    archive = File(
        "mmlu_test/data.tar",
        ("https://people.eecs.berkeley.edu/~hendrycks/data.tar",),
        "bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b",
    )
    lines = File("mmlu_test/mmlu_test.jsonl.gz")
    sources = [
        Source((lines,), partial(_read_mmlu_lines, classes=classes)),
        Source((archive,), partial(_read_mmlu_archive, classes=classes)),
    ]
    return unpacked(name, sources, names, corrupt)


def tiny_shakespeare(corrupt: Corrupt) -> DataSet[Texts, None]:
    """Return 1,115,394 characters of plays by Shakespeare (Karpathy 2015), a line a row, with its line break.

    The last tenth of the characters is the test; it is what nanoGPT and others call validation.
    """
    original = File(
        "tiny_shakespeare/input.txt",
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
            "tinyshakespeare/input.txt",
        ),
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
    compressed = File("tiny_shakespeare/input.txt.gz")
    sources = [Source((compressed,), _read_shakespeare), Source((original,), _read_shakespeare)]
    return unpacked("tiny-shakespeare", sources, (), corrupt)


def wikitext2(corrupt: Corrupt) -> DataSet[Texts, None]:
    """Return WikiText-2 (Merity et al. 2016, arXiv:1609.07843), 2 million words of Wikipedia, a paragraph a row.

    Rows end with a line break; words are separated by spaces and rare ones replaced by <unk>. Where only `valid.txt.gz` and
    `test.txt.gz` are there, a small sample of the whole, the former is to train on.
    """
    original = File(
        "wikitext2/wikitext-2-v1.zip",
        (
            "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-v1.zip",
            "https://wikitext.smerity.com/wikitext-2-v1.zip",
        ),
        "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    )
    sample = (File("wikitext2/valid.txt.gz"), File("wikitext2/test.txt.gz"))
    sources = [Source((original,), _read_wikitext), Source(sample, _read_wikitext_sample)]
    return unpacked("wikitext2", sources, (), corrupt)


def _read_pairs(paths: Sequence[Path], records: Records) -> Parts:
    parts = {}
    for part, english, german in zip(("train", "validation", "test"), paths[::2], paths[1::2], strict=True):
        left, right = (list(_lines(_content(path), path, records)) for path in (english, german))
        if len(left) != len(right):
            raise ValueError(
                f"both languages must have the same number of lines, got {len(left)} at {english} and {len(right)} at {german}"
            )
        pairs: list[tuple[str, str]] = []
        for row, (first, second) in enumerate(zip(left, right, strict=True)):
            if first is None or second is None:
                continue
            if first.strip() and second.strip():
                pairs.append((first.rstrip("\n"), second.rstrip("\n")))
            else:
                records.refuse(
                    english if second.strip() else german, row, "sentence must not be empty", "an empty line"
                )
        parts[part] = Split(Texts.of(pair[0] for pair in pairs), Texts.of(pair[1] for pair in pairs))
    return parts


def _read_mmlu_lines(paths: Sequence[Path], records: Records, *, classes: Mapping[str, int]) -> Parts:
    (path,) = paths

    def questions() -> Iterator[tuple[str, str]]:
        for row, line in enumerate(_lines(_content(path), path, records)):
            if line is None:
                continue
            try:
                record = json.loads(line)
                question, subject = record["question"], record["subject"]
                if not isinstance(question, str) or subject not in _GROUP:
                    raise ValueError(f"subject {subject!r}")
            except (ValueError, KeyError, TypeError) as error:
                records.refuse(path, row, "line must be a JSON object with a question and a subject of MMLU", error)
                continue
            yield question, subject

    return _by_class(questions(), classes)


def _read_mmlu_archive(paths: Sequence[Path], records: Records, *, classes: Mapping[str, int]) -> Parts:
    (path,) = paths
    names = {subject: f"data/test/{subject}_test.csv" for subject in sorted(_GROUP)}
    try:
        with tarfile.open(path) as archive:
            files = {subject: archive.extractfile(name) for subject, name in names.items()}
            tables = {subject: (file.read() if file else b"").decode() for subject, file in files.items()}
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
        raise unreadable(path, "the whole archive with data/test", error) from error

    def questions() -> Iterator[tuple[str, str]]:
        for subject, table in tables.items():
            for row, cells in enumerate(csv.reader(io.StringIO(table, newline=""))):
                if len(cells) == 6:  # the question, four answers, the letter of the right one
                    yield cells[0], subject
                else:
                    records.refuse(f"{path}:{names[subject]}", row, "row must have 6 cells", len(cells))

    return _by_class(questions(), classes)


def _by_class(questions: Iterable[tuple[str, str]], classes: Mapping[str, int]) -> Parts:
    found: dict[str, set[int]] = {}
    for question, subject in questions:
        if subject in classes:
            found.setdefault(question.strip(), set()).add(classes[subject])
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for text, labels in found.items():
        if text and len(labels) == 1:
            fifth = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 5 == 0
            parts["test" if fifth else "train"].append((text, next(iter(labels))))
    return {
        part: Split(Texts.of(text for text, _ in rows), np.array([label for _, label in rows], np.int64))
        for part, rows in parts.items()
    }


def _read_shakespeare(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    content = _content(path)
    end = int(0.9 * len(content))  # all characters are ASCII
    return {"train": _running(content[:end], path, records), "test": _running(content[end:], path, records)}


def _read_wikitext(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    names = {"train": "train", "validation": "valid", "test": "test"}
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {part: archive.read(f"wikitext-2/wiki.{name}.tokens") for part, name in names.items()}
    except (OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise unreadable(path, "the whole archive with wikitext-2", error) from error
    return {part: _running(content, path, records) for part, content in contents.items()}


def _read_wikitext_sample(paths: Sequence[Path], records: Records) -> Parts:
    return {part: _running(_content(path), path, records) for part, path in zip(("train", "test"), paths, strict=True)}


def _running(content: bytes, path: Path, records: Records) -> Split[Texts, None]:
    return Split(Texts.of(line for line in _lines(content, path, records) if line is not None), None)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, "a whole file", error) from error


def _lines(content: bytes, path: Path, records: Records) -> Iterator[str | None]:
    """Yield the lines with their line breaks, None for one that is not UTF-8."""
    for row, line in enumerate(io.BytesIO(content)):  # ends lines at line feeds only, which str.splitlines does not
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            records.refuse(path, row, "line must be UTF-8", error)
            yield None

"""Data sets by name: what is in them, how they are split, what happens to corrupt records, and the memory-mapped cache."""

import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import wave
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import heuretic as hr
from heuretic.data import Texts, Waveforms, data_file, load
from heuretic.data.dataset import DataSet, Split
from heuretic.data.loading import SETS
from heuretic.data.split import all_but, balanced, shuffled
from heuretic.data.text import GROUPS
from heuretic.data.unpacked import FORMAT

SHARED = Path(os.environ.get("HEURETIC_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
FOLDERS = {
    "cifar10": "cifar10",
    "fashion-mnist": "fashion_mnist",
    "fsdd": "fsdd",
    "mmlu-groups": "mmlu_test",
    "mmlu-subjects": "mmlu_test",
    "multi30k": "multi30k_en_de",
    "tiny-shakespeare": "tiny_shakespeare",
    "wikitext2": "wikitext2",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the real data sets, which the tests share because unpacking takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def surroundings(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEURETIC_CACHE", str(whole))
    monkeypatch.setenv("HEURETIC_DATA", str(SHARED))
    monkeypatch.setenv("HEURETIC_OFFLINE", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the real data, with a cache of its own."""
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def real(name: str) -> Any:
    """Load a data set of the shared folder, or skip the test."""
    if name in FOLDERS and not (SHARED / FOLDERS[name]).is_dir():
        pytest.skip(f"needs {FOLDERS[name]} in $HEURETIC_DATA")
    return load(name)


def same(a: Split[Any, Any] | None, b: Split[Any, Any] | None) -> bool:
    """Return whether two splits have the same rows in the same order."""
    if a is None or b is None:
        return a is b
    inputs = len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a.inputs, b.inputs, strict=True))
    return inputs and (a.labels is b.labels or np.array_equal(list(a.labels), list(b.labels)))


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# What is in them


def test_digits() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    pixels, labels = load_digits(return_X_y=True)
    assert (data.train.inputs.shape, data.test.inputs.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert np.array_equal(np.concatenate([data.train.inputs, data.test.inputs]).reshape(-1, 64), 15 * pixels)
    assert np.array_equal(np.concatenate([data.train.labels, data.test.labels]), labels)
    assert data.checksum == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826", (
        "as in committed results"
    )


def test_fashion_mnist() -> None:
    data = real("fashion-mnist")
    path = SHARED / "fashion_mnist/fashion_mnist.npz"
    assert data.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path) as arrays:
        assert np.array_equal(data.train.inputs[..., 0], arrays["x_train"])
        assert np.array_equal(data.test.labels, arrays["y_test"])
    for split in (data.train, data.test):
        assert isinstance(split.inputs, np.memmap)
        assert not split.inputs.flags.writeable
        assert (split.inputs.dtype, split.labels.dtype, split.inputs.shape[1:]) == (np.uint8, np.int64, (28, 28, 1))
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert data.classes[9] == "Ankle boot"


def test_cifar10() -> None:
    from PIL import Image
    from pyarrow import parquet

    data = real("cifar10")
    assert (data.train.inputs.shape, data.test.inputs.shape) == ((10_000, 32, 32, 3), (2_000, 32, 32, 3))
    assert np.bincount(data.test.labels).tolist() == [200] * 10
    table = parquet.read_table(SHARED / "cifar10/test.parquet").slice(100, 5).to_pylist()
    for row, record in enumerate(table, 100):
        assert np.array_equal(data.test.inputs[row], np.asarray(Image.open(io.BytesIO(record["jpeg"]))))
        assert data.classes[data.test.labels[row]] == record["class_name"]


def test_fsdd() -> None:
    data = real("fsdd")
    with np.load(SHARED / "fsdd/fsdd.npz") as arrays:
        samples, offsets, digit, test = (arrays[name] for name in ("samples", "offsets", "digit", "is_test"))
    assert (len(data.train), len(data.test), data.train.inputs.sample_rate) == (2700, 300, 8000)
    for split, rows in ((data.train, np.flatnonzero(~test)), (data.test, np.flatnonzero(test))):
        assert np.array_equal(split.labels, digit[rows])
        for place in (0, 7, -1):
            recording = split.inputs[place]
            assert recording.dtype == np.float32
            expected = samples[offsets[rows[place]] : offsets[rows[place] + 1]]
            assert np.array_equal(np.round(recording.astype(float) * 32768), expected)
            assert np.abs(recording).max() <= 1


def test_multi30k() -> None:
    data = real("multi30k")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [29_000, 1_014, 1_000]
    assert data.train.inputs[0] == "Two young, White males are outside near many bushes."
    assert data.train.labels[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert data.classes == ()
    fewer = load("multi30k", validation=2_000)
    assert fewer.validation is not None
    assert [len(part) for part in (fewer.train, fewer.validation, fewer.test)] == [27_000, 2_000, 1_000]
    pairs = set(zip(data.train.inputs, data.train.labels, strict=True))
    assert set(zip(fewer.validation.inputs, fewer.validation.labels, strict=True)) <= pairs


def test_mmlu_groups() -> None:
    data = real("mmlu-groups")
    assert data.classes == ("STEM", "humanities", "social sciences", "other")
    texts = [*data.train.inputs, *data.test.inputs]
    assert len(set(texts)) == len(texts), "no question is in both parts"
    assert 0.19 < len(data.test) / len(texts) < 0.21
    content = gzip.decompress((SHARED / "mmlu_test/mmlu_test.jsonl.gz").read_bytes())
    records = [json.loads(line) for line in content.splitlines()]
    groups: dict[str, set[str]] = {}
    for record in records:
        groups.setdefault(record["question"].strip(), set()).add(record["subject"])
    by_subject = {subject: group for group, subjects in GROUPS.items() for subject in subjects.split()}
    assert len(by_subject) == 57 == len({record["subject"] for record in records})
    for split in (data.train, data.test):
        for text, label in zip(split.inputs, split.labels, strict=True):
            assert {by_subject[subject] for subject in groups[text]} == {data.classes[label]}
    ambiguous = [text for text, subjects in groups.items() if len({by_subject[subject] for subject in subjects}) > 1]
    assert "Which of the following statements is true?" in ambiguous
    assert len(texts) + len(ambiguous) == len(groups)


def test_mmlu_subjects() -> None:
    data = real("mmlu-subjects")
    content = gzip.decompress((SHARED / "mmlu_test/mmlu_test.jsonl.gz").read_bytes())
    records = [json.loads(line) for line in content.splitlines()]
    counts = Counter(record["subject"] for record in records)
    assert set(data.classes) == {subject for subject, count in counts.items() if count >= 300}
    asked = {(record["question"].strip(), record["subject"]) for record in records}
    for split in (data.train, data.test):
        assert all((text, data.classes[label]) in asked for text, label in zip(split.inputs, split.labels, strict=True))
    assert 0.18 < len(data.test) / (len(data.train) + len(data.test)) < 0.22


@pytest.mark.parametrize("name", ["tiny-shakespeare", "wikitext2"])
def test_running_text_is_whole(name: str) -> None:
    data = real(name)
    assert data.train.labels is None
    joined = ["".join(split.inputs) for split in (data.train, data.test)]
    if name == "wikitext2":
        for text, part in zip(joined, ("valid", "test"), strict=True):
            assert text.encode() == gzip.decompress((SHARED / f"wikitext2/{part}.txt.gz").read_bytes())
    else:
        assert "".join(joined).encode() == gzip.decompress((SHARED / "tiny_shakespeare/input.txt.gz").read_bytes())
        assert (len(joined[0]), len(joined[1])) == (1_003_854, 111_540), "the split of nanoGPT"
    split = load(name, validation=100)
    assert split.validation is not None
    assert [*split.train.inputs, *split.validation.inputs] == list(data.train.inputs), "the last rows"


# How they are split


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "cifar10", "fsdd", "mmlu-groups"])
def test_splits_are_balanced_disjoint_and_leave_the_test_alone(name: str) -> None:
    data, classes = real(name), len(real(name).classes)
    split = load(name, validation=20 * classes, labels=5 * classes, seed=3)
    assert split.validation is not None
    assert split.unlabelled is not None
    assert np.bincount(split.validation.labels).tolist() == [20] * classes
    assert np.bincount(split.train.labels).tolist() == [5] * classes
    assert set(split.unlabelled.labels.tolist()) == {-1}
    assert same(split.test, data.test)
    assert (split.checksum, split.classes, split.name) == (data.checksum, data.classes, name)

    def seen(part: Split[Any, Any]) -> list[bytes]:
        return sorted(x.encode() if isinstance(x, str) else x.tobytes() for x in part.inputs)

    parts = [row for part in (split.train, split.validation, split.unlabelled) for row in seen(part)]
    assert sorted(parts) == seen(data.train), "every row is in exactly one part"
    assert same(load(name, validation=20 * classes, seed=3).with_labels(5 * classes, 3).train, split.train)
    assert not same(load(name, labels=5 * classes, seed=4).train, load(name, labels=5 * classes, seed=3).train)


def test_more_labels_of_a_seed_add_to_fewer() -> None:
    few, many = (load("digits", labels=count, seed=1).train for count in (50, 500))
    assert {x.tobytes() for x in few.inputs} <= {x.tobytes() for x in many.inputs}


labelled = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda rows: np.array(rows, np.int64))


@given(labels=labelled, share=st.floats(0, 1), seed=st.integers(0, 2**63))
def test_balanced_takes_as_many_of_each_class_as_there_are(labels: Any, share: float, seed: int) -> None:
    count = round(share * len(labels))
    rows = balanced(labels, count, seed)
    assert len(rows) == count
    assert (np.diff(rows) > 0).all()
    taken, there = (np.bincount(each, minlength=5) for each in (labels[rows], labels))
    short = (taken < taken.max()) & (taken < there)
    assert (taken[short] == taken.max() - 1).all(), (
        "a class with fewer has none left, or the rest of a division is missing"
    )
    assert sorted([*rows, *all_but(rows, len(labels))]) == list(range(len(labels)))


@given(count=st.integers(0, 40), seed=st.integers(0, 2**64 - 1))
def test_the_order_is_that_of_philox_words(count: int, seed: int) -> None:
    words = [word for block in range(1, count // 4 + 2) for word in philox((block, 0, 0, 0), (seed, 0))][:count]
    assert shuffled(count, seed).tolist() == sorted(range(count), key=words.__getitem__)


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x64-10 as in Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"."""
    mask = 2**64 - 1
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = (second >> 64 ^ counter[1] ^ key[0], second & mask, first >> 64 ^ counter[3] ^ key[1], first & mask)
        key = ((key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask)
    return counter


def test_rows_of_a_split() -> None:
    train = load("digits").train
    assert same(train[np.array([5, 2])], Split(train.inputs[[5, 2]], train.labels[[5, 2]]))
    assert same(train[[5, 2]], train[np.array([5, 2])])
    assert same(train[train.labels == 3], train[np.flatnonzero(train.labels == 3)])
    assert (len(train[:10]), len(train[[]])) == (10, 0)
    assert repr(train) == "Split(1,437 rows)"
    with pytest.raises(TypeError, match=r"rows must be a slice or row numbers of shape \(rows,\), got shape \(\)"):
        train[cast(Any, 3)]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: load("fashion_mnst"),
            "name must be one of cifar10, .*, got 'fashion_mnst'. Did you mean fashion-mnist?",
        ),
        (lambda: load("Tiny_Shakespeare"), "Did you mean tiny-shakespeare?"),
        (lambda: load("nope"), "name must be one of .*wikitext2, got 'nope'"),
        (lambda: load("digits", validation=1437), "validation must be from 0 to 1436, .*got 1437"),
        (lambda: load("digits", validation=-1), "validation must be from 0 to 1436, .*got -1"),
        (lambda: load("digits", labels=9), "labels must be from 10, one a class, to 1437, the rows of digits, got 9"),
        (lambda: load("digits", validation=1000, labels=438), "to 437, the rows of digits, got 438"),
        (lambda: load("digits", labels=10, seed=-1), "seed must be >= 0, got -1"),
        (lambda: load("digits", corrupt=cast(Any, "ignore")), 'corrupt must be "raise" or "skip", got \'ignore\''),
        (lambda: load("digits", labels=20).with_labels(10), "digits must be fully labelled, got 1417 unlabelled rows"),
        (lambda: text_set().with_labels(1), "labels must be classes to be balanced, got none in text"),
    ],
)
def test_mistakes(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


def text_set() -> DataSet[Texts, None]:
    rows = Split(Texts.of(["a", "b"]), None)
    return DataSet("text", rows, rows, None, None, (), "")


def test_a_part_of_a_symbolic_program() -> None:
    program = hr.sym(load)("digits", labels=hr.one_of(100, 200), validation=50)
    chosen = hr.replace(program, {"labels": 100})
    assert hr.loads(hr.dumps(chosen)) == chosen
    built = hr.build(hr.loads(hr.dumps(chosen)))
    assert same(built.train, load("digits", labels=100, validation=50).train)


# Texts and recordings


@given(texts=st.lists(st.text(), max_size=12), data=st.data())
def test_packed_texts_are_a_sequence_of_the_texts(texts: list[str], data: st.DataObject) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    packed = Texts.of(texts)
    assert list(packed) == texts
    rows = data.draw(st.lists(st.integers(-len(texts), len(texts) - 1), max_size=5) if texts else st.just([]))
    assert list(packed[np.array(rows, np.int64)]) == [texts[row] for row in rows]
    assert [packed[row] for row in rows] == [texts[row] for row in rows]
    part = data.draw(st.slices(len(texts)))
    assert list(packed[part]) == texts[part]
    assert packed[part].bytes is packed.bytes
    with pytest.raises(IndexError):
        packed[len(texts)]


def test_parts_of_recordings_share_their_samples() -> None:
    samples = np.array([0, 16384, -32768, 32767, 1], np.int16)
    sounds = Waveforms(samples, np.array([0, 1, 4]), np.array([1, 4, 5]), 8000)
    assert sounds[1].tolist() == [0.5, -1, 32767 / 32768]
    assert sounds[1].dtype == np.float32
    assert [len(sound) for sound in sounds[np.array([2, 1])]] == [1, 3]
    assert sounds[1:].samples is samples
    assert repr(sounds) == "Waveforms(3 recordings at 8000 Hz)"


# Other forms of the same data, corrupt records, files that are no good


def tiny_images(count: int, classes: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, classes, count).astype(np.uint8)


def idx(array: Any) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">i", size) for size in array.shape)
    return gzip.compress(head + array.tobytes())


def write_fashion(folder: Path, images: Any, labels: Any) -> Path:
    path = folder / "fashion_mnist/fashion_mnist.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, x_train=images, y_train=labels, x_test=images[:5], y_test=labels[:5])
    return path


def test_fashion_mnist_as_published(folder: Path) -> None:
    images, labels = tiny_images(30, 10, (28, 28))
    for name, array in {"train": (images, labels), "t10k": (images[:5], labels[:5])}.items():
        write(folder / f"fashion_mnist/{name}-images-idx3-ubyte.gz", idx(array[0]))
        write(folder / f"fashion_mnist/{name}-labels-idx1-ubyte.gz", idx(array[1]))
    published = load("fashion-mnist")
    write_fashion(folder, images, labels)
    arrays = load("fashion-mnist")
    assert same(published.train, arrays.train)
    assert same(published.test, arrays.test)
    assert np.array_equal(published.train.inputs[..., 0], images)
    assert published.checksum != arrays.checksum


class Python2Pickler(cast(Any, pickle)._Pickler):  # the one written in Python, of which methods can be replaced
    """Writes byte strings as Python 2 did, which is how CIFAR-10 was pickled."""

    def save_string(self, text: bytes | str) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch: Any = {**cast(Any, pickle)._Pickler.dispatch, bytes: save_string, str: save_string}


def write_cifar(folder: Path, batches: dict[str, bytes]) -> Path:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    write(folder / "cifar10/cifar-10-python.tar.gz", content.getvalue())
    return folder / "cifar10/cifar-10-python.tar.gz"


def batch(images: Any, labels: Any) -> bytes:
    content = io.BytesIO()
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    Python2Pickler(content, 2).dump({"data": rows, "labels": [int(label) for label in labels]})
    return content.getvalue()


def test_cifar10_as_published(folder: Path) -> None:
    images, labels = tiny_images(24, 10, (32, 32, 3))
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    parts = {name: slice(4 * place, 4 * place + 4) for place, name in enumerate(names)}
    content = batch(images[:4], labels[:4])
    assert b"numpy" in content
    assert b"BINUNICODE" not in content
    write_cifar(folder, {name: batch(images[rows], labels[rows]) for name, rows in parts.items()})
    data = load("cifar10")
    assert np.array_equal(data.train.inputs, images[:20])
    assert np.array_equal(data.test.inputs, images[20:])
    assert np.array_equal(data.test.labels, labels[20:])

    wrong = labels.copy()
    wrong[21] = 10
    path = write_cifar(folder, {name: batch(images[rows], wrong[rows]) for name, rows in parts.items()})
    with pytest.raises(ValueError, match=f"label must be from 0 to 9, got 10 at {path}:test_batch, row 1"):
        load("cifar10")


def test_a_pickle_that_would_run_something_is_refused(folder: Path) -> None:
    evil = pickle.dumps({b"data": os.getcwd, b"labels": []})
    write_cifar(folder, dict.fromkeys([f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"], evil))
    with pytest.raises(ValueError, match=r"must be the whole archive .*it names posix\.getcwd"):
        load("cifar10")


def write_parquet(folder: Path, records: list[tuple[bytes | None, int | None]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    (folder / "cifar10").mkdir(parents=True, exist_ok=True)
    good = [(png(np.zeros((32, 32, 3), np.uint8)), 0)]
    for part, rows in {"train": records, "test": good}.items():
        table = pa.table({"jpeg": pa.array([r[0] for r in rows], pa.binary()), "label": pa.array([r[1] for r in rows])})
        parquet.write_table(table, folder / f"cifar10/{part}.parquet")


def png(pixels: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def test_corrupt_images_are_an_error_or_left_out_and_counted(folder: Path) -> None:
    images, labels = tiny_images(6, 10, (32, 32, 3))
    good = [(png(image), int(label)) for image, label in zip(images, labels, strict=True)]
    bad: list[tuple[tuple[bytes | None, int | None], str]] = [
        ((good[0][0][:90], 1), "jpeg must be an image"),
        ((b"no image", 1), "jpeg must be an image"),
        ((None, 1), "jpeg must be an image"),
        ((png(np.zeros((31, 32, 3), np.uint8)), 1), r"image must be of shape \(32, 32, 3\), got \(31, 32, 3\)"),
        ((good[0][0], 10), "label must be from 0 to 9, got 10"),
        ((good[0][0], None), "label must be from 0 to 9, got None"),
    ]
    for record, message in bad:
        write_parquet(folder, [*good[:2], record, *good[2:]])
        place = f'at {folder}/cifar10/train.parquet, row 2. Try corrupt="skip"'
        with pytest.raises(ValueError, match=f"{message}.*{place}"):
            load("cifar10")
        data = load("cifar10", corrupt="skip")
        assert data.skipped == 1
        assert np.array_equal(data.train.inputs, images)
        assert np.array_equal(data.train.labels, labels)
        assert load("cifar10", corrupt="skip").skipped == 1, "from the cache"
        with pytest.raises(ValueError, match=f"{message}.*{place}"):
            load("cifar10")
    write_parquet(folder, [record for record, _ in bad])
    with pytest.raises(ValueError, match="train must have records, got none, 6 corrupt ones left out"):
        load("cifar10", corrupt="skip")


def test_labels_out_of_range_in_arrays(folder: Path) -> None:
    images, labels = tiny_images(12, 10, (28, 28))
    labels[[3, 8]] = 10, 200
    path = write_fashion(folder, images, labels)
    with pytest.raises(ValueError, match=f"label must be from 0 to 9, got 10 at {path}:x_train, row 3"):
        load("fashion-mnist")
    data = load("fashion-mnist", corrupt="skip")
    assert data.skipped == 3, "row 3 is among the test rows, too"
    assert np.array_equal(data.train.inputs[..., 0], np.delete(images, [3, 8], 0))
    with pytest.raises(ValueError, match=f"label must be from 0 to 9, got 10 at {path}:x_train, row 3"):
        load("fashion-mnist")
    write_fashion(folder, images[:, 1:], labels)
    with pytest.raises(ValueError, match=r"images must be uint8 of shape \(12, 28, 28\), got uint8 \(12, 27, 28\)"):
        load("fashion-mnist", corrupt="skip")


def test_corrupt_questions(folder: Path) -> None:
    path = folder / "mmlu_test/mmlu_test.jsonl.gz"
    good = [json.dumps({"question": f"question {n}?", "subject": "virology"}).encode() for n in range(20)]
    bad = [b'{"question": "half', b'{"question": "x"}', b'{"question": 1, "subject": "virology"}', b"[]", b"\xff{}"]
    bad.append(b'{"question": "x", "subject": "alchemy"}')
    for line in bad:
        write(path, gzip.compress(b"\n".join([*good[:7], line, *good[7:]]) + b"\n"))
        with pytest.raises(ValueError, match=rf"line must be .* at {path}, row 7\. Try"):
            load("mmlu-groups")
        data = load("mmlu-groups", corrupt="skip")
        assert (data.skipped, len(data.train) + len(data.test)) == (1, 20)


def test_mmlu_as_published(folder: Path) -> None:
    lines = SHARED / "mmlu_test/mmlu_test.jsonl.gz"
    if not lines.is_file():
        pytest.skip("needs mmlu_test in $HEURETIC_DATA")
    import csv

    tables: dict[str, io.StringIO] = {}
    for line in gzip.decompress(lines.read_bytes()).splitlines():
        record = json.loads(line)
        table = tables.setdefault(record["subject"], io.StringIO(newline=""))
        csv.writer(table).writerow([record["question"], *record["choices"], record["answer"]])
    (folder / "mmlu_test").mkdir(parents=True)
    with tarfile.open(folder / "mmlu_test/data.tar", "w") as archive:
        for subject, table in tables.items():
            content = table.getvalue().encode() + (b"only,three,cells\n" if subject == "virology" else b"")
            member = tarfile.TarInfo(f"data/test/{subject}_test.csv")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(
        ValueError, match=r"row must have 6 cells, got 3 at .*data.tar:data/test/virology_test.csv, row 166"
    ):
        load("mmlu-groups")
    published = load("mmlu-groups", corrupt="skip")
    shutil.copy(lines, folder / "mmlu_test")
    records = load("mmlu-groups")
    assert same(published.train, records.train)
    assert same(published.test, records.test)
    assert published.skipped == 1


def test_corrupt_sentence_pairs(folder: Path) -> None:
    lines = {"en": [f"line {n}".encode() for n in range(9)], "de": [f"Zeile {n}".encode() for n in range(9)]}
    lines["en"][2], lines["de"][4] = b" ", b"\xff"

    def put(part: str, language: str, rows: list[bytes]) -> None:
        write(folder / f"multi30k_en_de/{part}.{language}.gz", gzip.compress(b"\n".join(rows) + b"\n"))

    for language, rows in lines.items():
        put("train", language, rows)
        put("val", language, rows[5:])
        put("test_2016_flickr", language, rows[5:])
    english, german = (folder / f"multi30k_en_de/train.{language}.gz" for language in ("en", "de"))
    with pytest.raises(ValueError, match=f"line must be UTF-8, got .* at {german}, row 4"):
        load("multi30k")
    data = load("multi30k", corrupt="skip")
    assert data.skipped == 2
    assert list(data.train.inputs) == [f"line {n}" for n in (0, 1, 3, 5, 6, 7, 8)]
    assert list(data.train.labels) == [f"Zeile {n}" for n in (0, 1, 3, 5, 6, 7, 8)]
    lines["de"][4] = b"Zeile 4"
    put("train", "de", lines["de"])
    with pytest.raises(ValueError, match=f"sentence must not be empty, got an empty line at {english}, row 2"):
        load("multi30k")
    put("train", "de", lines["de"][1:])
    with pytest.raises(ValueError, match=f"same number of lines, got 9 at {english} and 8 at {german}"):
        load("multi30k", corrupt="skip")


def test_fsdd_as_published(folder: Path) -> None:
    def sound(samples: Any, rate: int = 8000) -> bytes:
        content = io.BytesIO()
        with wave.open(content, "wb") as recording:
            recording.setparams((1, 2, rate, len(samples), "NONE", ""))
            recording.writeframes(np.asarray(samples, "<i2").tobytes())
        return content.getvalue()

    recordings = {"3_theo_0": sound([1, -2, 3]), "3_theo_7": sound([4, 5]), "0_jackson_12": sound([-32768])}
    broken = {"1_theo_8": recordings["3_theo_0"][:20], "2_theo_8": sound([1], 16_000), "77_theo_9": sound([1])}

    def put(members: dict[str, bytes]) -> Path:
        path = folder / "fsdd/free-spoken-digit-dataset-1.0.9.tar.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.9/recordings/{name}.wav")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    for name, content in broken.items():
        path = put({**recordings, name: content})
        with pytest.raises(ValueError, match=rf"must be .*, got .* at {path}:.*{name}.wav, row \d"):
            load("fsdd")
    put({**recordings, **broken})
    data = load("fsdd", corrupt="skip")
    assert data.skipped == 3
    assert [(recording * 32768).tolist() for recording in data.train.inputs] == [[-32768], [4, 5]]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 3], [3])
    assert (data.test.inputs[0] * 32768).tolist() == [1, -2, 3]


def test_corrupt_recordings_in_arrays(folder: Path) -> None:
    path = folder / "fsdd/fsdd.npz"
    path.parent.mkdir(parents=True)
    digit, offsets = np.array([1, 77, 2, 3, 4], np.uint8), np.array([0, 2, 4, 4, 6, 8])
    np.savez(
        path, samples=np.arange(8, dtype=np.int16), offsets=offsets, digit=digit,
        is_test=np.array([False, False, False, False, True]), sample_rate=8000,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"label must be from 0 to 9, got 77 at {path}, row 1"):
        load("fsdd")
    data = load("fsdd", corrupt="skip")
    assert (data.skipped, data.train.labels.tolist(), data.test.labels.tolist()) == (2, [1, 3], [4])
    assert (data.train.inputs[1] * 32768).tolist() == [4, 5]


def test_wikitext_as_published(folder: Path) -> None:
    (folder / "wikitext2").mkdir(parents=True)
    texts = {"train": " = Title = \n \n A paragraph\u2028of one line . \n", "valid": " b \n", "test": " c \n c \n"}
    with zipfile.ZipFile(folder / "wikitext2/wikitext-2-v1.zip", "w") as archive:
        for part, text in texts.items():
            archive.writestr(f"wikitext-2/wiki.{part}.tokens", text)
    data = load("wikitext2")
    assert list(data.train.inputs) == [" = Title = \n", " \n", " A paragraph\u2028of one line . \n"]
    assert data.validation is not None
    assert (list(data.validation.inputs), list(data.test.inputs)) == ([" b \n"], [" c \n", " c \n"])


def files_of_all_sets(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield data sets and a file of each, of which the beginning is kept."""
    images, labels = tiny_images(20, 10, (28, 28))
    yield "fashion-mnist", write_fashion(folder / "a", images, labels)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        write(folder / f"b/fashion_mnist/{name}-ubyte.gz", idx(images if "images" in name else labels))
    yield "fashion-mnist", folder / "b/fashion_mnist/train-images-idx3-ubyte.gz"
    colours, kinds = tiny_images(8, 10, (32, 32, 3))
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    yield "cifar10", write_cifar(folder / "c", dict.fromkeys(names, batch(colours, kinds)))
    write_parquet(folder / "d", [(png(colours[0]), 1)])
    yield "cifar10", folder / "d/cifar10/test.parquet"
    write(folder / "e/tiny_shakespeare/input.txt.gz", gzip.compress(colours.tobytes()))
    yield "tiny-shakespeare", folder / "e/tiny_shakespeare/input.txt.gz"
    write(folder / "f/mmlu_test/data.tar", b"\0" * 100)
    yield "mmlu-groups", folder / "f/mmlu_test/data.tar"
    write(folder / "g/wikitext2/wikitext-2-v1.zip", b"PK\3\4" + b"\0" * 100)
    yield "wikitext2", folder / "g/wikitext2/wikitext-2-v1.zip"
    write(folder / "h/fsdd/free-spoken-digit-dataset-1.0.9.tar.gz", gzip.compress(colours.tobytes()))
    yield "fsdd", folder / "h/fsdd/free-spoken-digit-dataset-1.0.9.tar.gz"


def test_half_a_file_is_an_error_that_names_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in files_of_all_sets(folder):
        monkeypatch.setenv("HEURETIC_DATA", str(path.parents[1]))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for corrupt in ("raise", "skip"):
            with pytest.raises(ValueError, match=rf"^{path.name} must be .*whole .* at {path}. Try getting it anew"):
                load(name, corrupt=corrupt)


def test_missing_files(folder: Path) -> None:
    for name in sorted(set(SETS) - {"digits"}):
        with pytest.raises(
            FileNotFoundError, match=f"HEURETIC_DATA must name a folder with {FOLDERS[name]}/.*, for {name}, got"
        ):
            load(name)


# The memory-mapped cache


@pytest.fixture
def cache(folder: Path) -> Path:
    """The folder of unpacked arrays, not there yet, for a Fashion-MNIST of 40 images."""
    write_fashion(folder, *tiny_images(40, 10, (28, 28)))
    return folder.parent / "cache/unpacked"


LOAD = "from heuretic.data import load; data = load('fashion-mnist'); print(type(data.train.inputs).__name__, len(data.train))"


def test_unpacked_once(cache: Path) -> None:
    first = load("fashion-mnist")
    (kept,) = cache.iterdir()
    assert kept.name == f"fashion-mnist-{first.checksum[:16]}-{FORMAT}"
    times = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    again = load("fashion-mnist")
    assert isinstance(again.train.inputs, np.memmap)
    assert same(first.train, again.train)
    assert {path: path.stat().st_mtime_ns for path in kept.iterdir()} == times


def test_damaged_arrays_are_unpacked_anew(cache: Path) -> None:
    before = load("fashion-mnist").train[np.arange(40)]  # not mapped to what is damaged below
    (kept,) = cache.iterdir()
    for name, content in {"train-inputs.npy": b"\x93NUMPY", "splits.json": b"{", "test-labels.npy": b""}.items():
        (kept / name).write_bytes(content)
        after = load("fashion-mnist")
        assert isinstance(after.train.inputs, np.memmap)
        assert same(after.train, before)


def test_a_cache_that_cannot_be_written(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file in place of a folder")
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "file"))
    with pytest.warns(
        UserWarning, match=r"fashion-mnist stays in memory .* the cache cannot be written .*HEURETIC_CACHE="
    ):
        data = load("fashion-mnist")
    assert not isinstance(data.train.inputs, np.memmap)
    monkeypatch.setenv("HEURETIC_CACHE", str(tmp_path / "cache"))
    assert same(data.train, load("fashion-mnist").train)


def test_a_full_cache(cache: Path) -> None:
    def full() -> None:  # as a full disk does, writing fails half-way
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, preexec_fn=full, check=True)
    assert done.stdout.split() == ["ndarray", "40"]
    assert "stays in memory" in done.stderr
    assert list(cache.iterdir()) == []


def test_two_processes_unpack_at_once(cache: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].split() for process in processes] == [["memmap", "40"]] * 3
    assert [path.name.split("-")[0] for path in cache.iterdir()] == ["fashion"]


def test_a_process_killed_while_unpacking(cache: Path) -> None:
    code = f"""
import os, signal
import numpy as np
save, saved = np.save, []
def save_twice(file, array):
    save(file, array)
    saved.append(file)
    if len(saved) == 2:
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
np.save = save_twice
{LOAD}
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.startswith("partial-")
    os.utime(left, (time.time() - 90_000, time.time() - 90_000))
    assert isinstance(load("fashion-mnist").train.inputs, np.memmap)
    assert not left.exists(), "a day later it can be nobody's"


def test_importing_the_room_is_light() -> None:
    code = "import heuretic.data, sys; print(*({'torch', 'pooch', 'requests', 'PIL', 'pyarrow', 'sklearn', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_a_file_and_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set/a.txt", b"data")
    monkeypatch.setenv("HEURETIC_DATA", str(tmp_path))
    assert data_file("set/a.txt") == (tmp_path / "set/a.txt", hashlib.sha256(b"data").hexdigest())
    with pytest.raises(FileNotFoundError, match=r"must name a folder with set/b.txt, got '.*'. Try elsewhere"):
        data_file("set/b.txt", "Try elsewhere")

"""Sets of small images: Fashion-MNIST, CIFAR-10 and scikit-learn's digits."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heuretic.data.dataset import DataSet, Parts, Split
from heuretic.data.files import File
from heuretic.data.records import Corrupt, Records, unreadable
from heuretic.data.unpacked import Source, unpacked

Images = NDArray[np.uint8]
Classes = NDArray[np.int64]

FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def fashion_mnist(corrupt: Corrupt) -> DataSet[Images, Classes]:
    """Return Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 60,000 + 10,000 grey images of 28 x 28, ten classes."""

    def published(name: str, sha256: str) -> File:
        place = f"fashion_mnist/{name}-ubyte.gz"
        addresses = (
            f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{name}-ubyte.gz",
            f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}-ubyte.gz",
        )
        return File(place, addresses, sha256)

    originals = (
        published("train-images-idx3", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        published("train-labels-idx1", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        published("t10k-images-idx3", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        published("t10k-labels-idx1", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
    sources = [Source((File("fashion_mnist/fashion_mnist.npz"),), _read_npz), Source(originals, _read_idx)]
    return unpacked("fashion-mnist", sources, FASHION_MNIST, corrupt)


def cifar10(corrupt: Corrupt) -> DataSet[Images, Classes]:
    """Return CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32, ten classes; or the sample that is there.

    A sample is `cifar10/train.parquet` and `test.parquet` with columns `jpeg` and `label`.
    """
    original = File(
        "cifar10/cifar-10-python.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    )
    sample = (File("cifar10/train.parquet"), File("cifar10/test.parquet"))
    sources = [Source((original,), _read_cifar), Source(sample, _read_parquet)]
    return unpacked("cifar10", sources, CIFAR10, corrupt)


def digits(corrupt: Corrupt) -> DataSet[Images, Classes]:
    """Return the 1,797 handwritten digits that come with scikit-learn, 8 x 8, grey values 0 to 240.

    Those of the source go from 0 to 16; here they are 15 times as high, since augmentations take 255 for white. The images
    have no split of their own. The last 360 are the test: the order is by writer, so these are other people's hands.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise FileNotFoundError("the digits images come with scikit-learn. Try: pip install scikit-learn") from error
    pixels, labels = (np.asarray(part, np.uint8) for part in load_digits(return_X_y=True))
    checksum = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    rows = Split(15 * pixels.reshape(-1, 8, 8, 1), labels.astype(np.int64))
    names = tuple(str(digit) for digit in range(10))
    return DataSet("digits", rows[:-360], rows[-360:], None, None, names, checksum)


def _read_npz(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y, x_test, y_test = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise unreadable(path, "a whole .npz with x_train, y_train, x_test and y_test", error) from error
    return {
        "train": _checked(x, y, (28, 28), len(FASHION_MNIST), f"{path}:x_train", records),
        "test": _checked(x_test, y_test, (28, 28), len(FASHION_MNIST), f"{path}:x_test", records),
    }


def _read_idx(paths: Sequence[Path], records: Records) -> Parts:
    x, y, x_test, y_test = (_idx(path) for path in paths)
    return {
        "train": _checked(x, y, (28, 28), len(FASHION_MNIST), paths[0], records),
        "test": _checked(x_test, y_test, (28, 28), len(FASHION_MNIST), paths[2], records),
    }


def _idx(path: Path) -> NDArray[np.uint8]:
    """Return the array in an IDX file: 0, 0, 8 for bytes, the number of axes; their lengths as big-endian int32; bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
        if data[:3] != b"\0\0\x08":
            raise ValueError(f"it begins with {data[:3]!r}")
        shape = np.frombuffer(data, ">i4", data[3], 4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
    except (OSError, ValueError, IndexError, EOFError, zlib.error) as error:
        raise unreadable(path, "a whole gzipped IDX file of bytes", error) from error


def _checked(
    images: NDArray[Any], labels: NDArray[Any], size: tuple[int, ...], classes: int, path: Path | str, records: Records
) -> Split[Images, Classes]:
    """Return images of one shape with labels as a split, without the rows whose label is out of range."""
    if images.shape != (len(labels), *size) or images.dtype != np.uint8:
        raise ValueError(
            f"images must be uint8 of shape {(len(labels), *size)}, got {images.dtype} {images.shape} at {path}"
        )
    classified = labels.astype(np.int64)
    wrong = np.flatnonzero((classified < 0) | (classified >= classes))
    for row in wrong:
        records.refuse(path, int(row), f"label must be from 0 to {classes - 1}", labels[row])
    images = images if len(size) == 3 else images[..., None]
    rows = Split(images, classified)
    return rows if not len(wrong) else rows[np.setdiff1d(np.arange(len(labels)), wrong)]


def _read_cifar(paths: Sequence[Path], records: Records) -> Parts:
    (path,) = paths
    try:
        with tarfile.open(path) as archive:
            batches = {
                name: _batch(archive.extractfile(f"cifar-10-batches-py/{name}"))
                for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
            }
    except (OSError, KeyError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise unreadable(path, "the whole archive with cifar-10-batches-py", error) from error
    splits = {
        name: _checked(images, labels, (32, 32, 3), len(CIFAR10), f"{path}:{name}", records)
        for name, (images, labels) in batches.items()
    }
    test = splits.pop("test_batch")
    parts = list(splits.values())
    train = Split(np.concatenate([p.inputs for p in parts]), np.concatenate([p.labels for p in parts]))
    return {"train": train, "test": test}


def _batch(file: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _Arrays(file, encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pixels), np.asarray(batch[b"labels"], np.int64)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"a batch that is no pickle of arrays: {error}") from error


class _Arrays(pickle.Unpickler):
    """Reads pickles of numpy arrays and refuses all others, which could run anything."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == "numpy" and global_name in ("ndarray", "dtype"):
            return getattr(np, global_name)
        if global_name == "_reconstruct" and module_name in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]  # this function, wherever the installed numpy keeps it
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _read_parquet(paths: Sequence[Path], records: Records) -> Parts:
    train, test = paths
    return {
        "train": _parquet(train, (32, 32, 3), len(CIFAR10), records),
        "test": _parquet(test, (32, 32, 3), len(CIFAR10), records),
    }


def _parquet(path: Path, size: tuple[int, int, int], classes: int, records: Records) -> Split[Images, Classes]:
    try:
        import pyarrow as pa
        from PIL import Image, UnidentifiedImageError
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"reading {path} needs pyarrow and pillow. Try: pip install 'heuretic[data]'") from error
    try:
        table = parquet.read_table(path, columns=["jpeg", "label"])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise unreadable(path, "a whole Parquet file with columns jpeg and label", error) from error
    images, labels = [], []
    for row, (jpeg, label) in enumerate(zip(table["jpeg"], table["label"], strict=True)):
        try:
            with Image.open(io.BytesIO(jpeg.as_py() or b"")) as image:
                pixels = np.asarray(image.convert("RGB"), np.uint8)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            records.refuse(path, row, "jpeg must be an image", error)
            continue
        if pixels.shape != size:
            records.refuse(path, row, f"image must be of shape {size}", pixels.shape)
        elif not isinstance(label.as_py(), int) or not 0 <= label.as_py() < classes:
            records.refuse(path, row, f"label must be from 0 to {classes - 1}", label.as_py())
        else:
            images.append(pixels)
            labels.append(label.as_py())
    return Split(np.stack(images) if images else np.zeros((0, *size), np.uint8), np.array(labels, np.int64))

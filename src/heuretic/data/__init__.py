"""Data sets as numpy arrays and sequences: from a folder of yours, a cache, or where they are published."""

from heuretic.data.dataset import DataSet, Split
from heuretic.data.images import Images, digits, fashion_mnist
from heuretic.data.loading import load
from heuretic.data.local import data_file
from heuretic.data.packed import Texts, Waveforms

__all__ = ["DataSet", "Images", "Split", "Texts", "Waveforms", "data_file", "digits", "fashion_mnist", "load"]

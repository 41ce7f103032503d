"""Data sets of images behind one function, `load_dataset`, and the order of their minibatches."""

from hvae_codec.data.dataset import ImageDataset, TrainingPictures, binarise
from hvae_codec.data.random_crops import RandomCrops
from hvae_codec.data.registry import DATASETS, load_dataset, load_training
from hvae_codec.data.shuffling import epoch_batches
from hvae_codec.data.sources.folder import load_folder, picture_paths
from hvae_codec.data.sources.roots import default_root, search_roots

__all__ = [
    "DATASETS",
    "ImageDataset",
    "RandomCrops",
    "TrainingPictures",
    "binarise",
    "default_root",
    "epoch_batches",
    "load_dataset",
    "load_folder",
    "load_training",
    "picture_paths",
    "search_roots",
]

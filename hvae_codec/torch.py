"""Archives as data sets of PyTorch, and images in the form of torchvision's functions.

    from torch.utils.data import DataLoader
    from hvae_codec.torch import ArchiveStream, collate

    stream = ArchiveStream("train.hvaa", shuffle=True, seed=0)
    loader = DataLoader(stream, batch_size=256, num_workers=2, collate_fn=collate)
    for epoch in range(10):
        stream.set_epoch(epoch)
        for images, labels in loader: ...   # uint8 [256, C, H, W], int64 [256]

`ArchiveDataset` gives images by number, in any order; `ArchiveStream` reads every block once an
epoch, which is faster.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from hvae_codec.codec.archive.reader import Archive
from hvae_codec.codec.bitstream.encoded import Encoded, read_file
from hvae_codec.codec.images.arrays import check_tensor
from hvae_codec.codec.model_choice import AUTO
from hvae_codec.codec.rate_control.targets import encode
from hvae_codec.codec.registry import decode, load, model_for
from hvae_codec.errors import ArchiveError, HvaeCodecError, ImageError
from hvae_codec.utils.arguments import flag, is_whole, layer_count, path_of, shown, whole

Item = tuple[Tensor, Any]
"""An image uint8 [C, H, W], or features float32 [D], and its target."""

Target = Literal["label", "folder", "name"]
Transform = Callable[[Any], Any]

TARGETS: tuple[Target, ...] = ("label", "folder", "name")


class _Items:
    """Images of an archive, or their features, with their targets."""

    def __init__(
        self,
        archive: str | os.PathLike[str] | Archive,
        *,
        features: int | None = None,
        target: Target | None = "label",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        self.archive = archive if isinstance(archive, Archive) else Archive(archive)
        self.transform = transform
        self.target_transform = target_transform
        self.classes: list[str] = []
        if features is not None:
            features = layer_count(features, len(self.archive.codec.info.z_dims))
        self._layers = features
        self._targets = self._targets_of(target)

    def read(self, indices: Sequence[int]) -> list[Item]:
        """The items of these numbers; each block is read once."""
        indices = list(indices)
        values = map(torch.from_numpy, self._values(indices))
        # A label that is a dict is the caller's to change, without others seeing it.
        pairs = (
            (value, copy.deepcopy(self._targets[index]))
            for value, index in zip(values, indices, strict=True)
        )
        return [(_changed(x, self.transform), _changed(y, self.target_transform)) for x, y in pairs]

    def _values(self, indices: Sequence[int]) -> Sequence[NDArray[Any]]:
        if self._layers is None:
            images = self.archive.decode(indices)
            return [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in images]
        layers = self.archive.layer_features(indices, self._layers)
        return list(np.concatenate([layer.mean for layer in layers], axis=1))

    def _targets_of(self, target: Target | None) -> Sequence[Any]:
        path = self.archive.path
        if target is None:
            return [None] * len(self.archive)
        if target not in TARGETS:
            known = ", ".join(map(repr, TARGETS))
            raise ArchiveError(f"a target is {known} or None, not {shown(target)}")
        if target == "label":
            if not self.archive.info.labels:
                raise ArchiveError(
                    f"{path} has no labels; take target='folder' or 'name', or None for no target"
                )
            return self.archive.labels
        names = self.archive.names
        if target == "name":
            return names
        folders = [None if name is None else _folder(name) for name in names]
        if None in folders:
            number = folders.index(None)
            raise ArchiveError(f"{path}: image {number} ({names[number]!r}) lies in no folder")
        self.classes = sorted({folder for folder in folders if folder is not None})
        numbers = {folder: number for number, folder in enumerate(self.classes)}
        return [numbers[folder] for folder in folders if folder is not None]


class ArchiveDataset(_Items, Dataset[Item]):
    """Images of a `.hvaa` archive by number, with their targets.

    A `DataLoader` may take it with workers of any start method. Batches are read at once: each
    block that a batch touches is decoded once for it.

    Args:
        archive: a path, or an `Archive`.
        features: in place of images, the means of so many layers, top first, in one vector [D].
        target: what an image comes with: "label", as it is stored; "folder", the number of the
            first folder of its name among `classes`, as torchvision's ImageFolder has it; "name";
            None.
        transform, target_transform: called with every image or vector, or target.

    Attributes:
        classes: names of the folders, sorted; empty with other targets.

    Raises:
        ArchiveError: there are no such targets. And as `Archive`.
    """

    def __len__(self) -> int:
        return len(self.archive)

    def __getitem__(self, index: int) -> Item:
        """An image uint8 [C, H, W], or features float32 [D], and its target.

        Raises:
            IndexError: there is none of this number. CorruptError: its block is damaged.
        """
        return self.read([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """The items of a batch, as `DataLoader` asks for them. Raises as `archive[i]`."""
        return self.read(indices)


class ArchiveStream(_Items, IterableDataset[Item]):
    """Images of a `.hvaa` archive, every block read once, shared among ranks and workers.

    With `shuffle` the blocks come in another order each epoch, and the images of `pool` blocks are
    shuffled together. Ranks, and workers, take blocks in turn: they may differ by a block of
    images in length.

    Args:
        archive, features, target, transform, target_transform: as `ArchiveDataset`.
        shuffle: otherwise the archive's order.
        seed: of the order, >= 0; the same on all ranks.
        pool: blocks whose images are shuffled together, each of some 256 tiles.
        rank, world_size: which of how many processes this is; by default those of
            `torch.distributed` where it is initialised, else 0 of 1.

    Raises:
        HvaeCodecError: an argument is out of range. And as `ArchiveDataset`.
    """

    def __init__(
        self,
        archive: str | os.PathLike[str] | Archive,
        *,
        features: int | None = None,
        target: Target | None = "label",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        shuffle: bool = False,
        seed: int = 0,
        pool: int = 4,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__(
            archive,
            features=features,
            target=target,
            transform=transform,
            target_transform=target_transform,
        )
        self._shuffle = flag("shuffle", shuffle)
        self._seed, self._pool = whole("seed", seed), whole("pool", pool)
        if self._seed < 0 or self._pool < 1:
            raise HvaeCodecError(f"seed is at least 0 and pool 1, got {seed} and {pool}")
        self._rank, self._world_size = _share(rank, world_size)
        # In shared memory: workers that live through epochs see the one that is set.
        epoch = torch.zeros((), dtype=torch.int64, device="cpu")  # whatever the default device is
        self._epoch = epoch.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch, 0..2^63-1, from the next iteration on.

        Raises:
            HvaeCodecError: it is no such number.
        """
        number = whole("epoch", epoch)
        if not 0 <= number < 2**63:
            raise HvaeCodecError(f"epoch lies in 0..2^63-1, not {shown(epoch)}")
        self._epoch.fill_(number)

    def __iter__(self) -> Iterator[Item]:
        """The items of this rank and worker. Raises CorruptError at a damaged block."""
        generator = np.random.default_rng((self._seed, int(self._epoch)))
        blocks = self.archive.blocks
        if self._shuffle:
            blocks = [blocks[number] for number in generator.permutation(len(blocks))]
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        mine = blocks[self._rank :: self._world_size][number::workers]
        for start in range(0, len(mine), self._pool):
            indices = np.concatenate(
                [np.arange(b.start, b.stop) for b in mine[start:][: self._pool]]
            )
            if self._shuffle:
                # Read in the archive's order: so each block is decoded once.
                order = generator.permutation(len(indices))
                items = self.read(indices.tolist())
                yield from (items[place] for place in order)
            else:
                yield from self.read(indices.tolist())


def collate(items: Sequence[Item]) -> tuple[Tensor | list[Tensor], Tensor | list[Any]]:
    """A batch for `DataLoader(collate_fn=...)`.

    Returns:
        The images or features as one tensor [N, ...] where they agree in shape, else as a list; the
        targets int64 [N] where all are whole numbers of 64 bits, else as a list.

    Raises:
        HvaeCodecError: there are no items.
    """
    if not items:
        raise HvaeCodecError("a batch holds at least one item")
    values, targets = zip(*items, strict=True)
    alike = all(isinstance(each, Tensor) and each.shape == values[0].shape for each in values)
    numbers = all(_is_number(each) for each in targets)
    return (
        torch.stack(values) if alike else list(values),
        torch.tensor(targets, dtype=torch.int64) if numbers else list(targets),
    )


def decode_image(source: Encoded) -> Tensor:
    """The image uint8 [C, H, W] of a `.hvae` file: its path, its bytes, or these as uint8 [N].

    Raises:
        ImageError: a tensor is of another form. OSError: a path cannot be read. BitstreamError,
            UnknownModelError: as `hvae_codec.decode`, which takes the same.
    """
    if isinstance(source, Tensor):
        check_tensor(source)
        if source.dtype != torch.uint8 or source.ndim != 1:
            raise ImageError(
                f"the bytes of a file are a tensor uint8 [N], not {source.dtype} "
                f"{list(source.shape)}"
            )
    elif isinstance(source, str | os.PathLike):
        source = read_file(path_of("source", source))
    image = decode(source)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def encode_image(
    image: Tensor,
    model: str = AUTO,
    quality: float | None = None,
    *,
    effort: int | None = None,
    target_bytes: int | None = None,
    target_psnr: float | None = None,
    max_bytes: int | None = None,
) -> Tensor:
    """The `.hvae` file, uint8 [N], of an image uint8 [C, H, W].

    Args:
        image: C is 1 or 3.
        model, quality, effort: as `hvae_codec.load`; "auto" chooses by the image's size.
        target_bytes, target_psnr, max_bytes: as `hvae_codec.encode`, in place of a quality.

    Raises:
        HvaeCodecError: a quality and a target are given. And as `hvae_codec.load`,
            `hvae_codec.encode` and `Codec.encode`.
    """
    if isinstance(image, Tensor):
        check_tensor(image)
    if not isinstance(image, Tensor) or image.ndim != 3:
        form = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ImageError(f"an image is a tensor uint8 [C, H, W], not {form}")
    if target_bytes is None and target_psnr is None and max_bytes is None:
        auto = isinstance(model, str) and model == AUTO
        name = model_for(*image.shape[1:]) if auto else model
        blob = load(name, quality, effort=effort).encode(image)
    elif quality is not None:
        raise HvaeCodecError("a quality and a target exclude each other")
    else:
        blob = encode(
            image,
            model,
            target_bytes=target_bytes,
            target_psnr=target_psnr,
            max_bytes=max_bytes,
            effort=1 if effort is None else effort,
        )
    return torch.frombuffer(bytearray(blob), dtype=torch.uint8)


def _is_number(target: object) -> bool:
    """Whether it is a whole number, Python's or NumPy's, that int64 holds; no truth value."""
    whole_number = is_whole(target) and not isinstance(target, bool)
    return whole_number and -(2**63) <= target < 2**63  # type: ignore[operator]


def _folder(name: str) -> str | None:
    folder, slash, _ = name.partition("/")
    return folder if slash and folder else None


def _changed(value: Any, transform: Transform | None) -> Any:
    return value if transform is None else transform(value)


def _share(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and number of ranks. Raises HvaeCodecError where they do not go together."""
    if (rank is None) != (world_size is None):
        raise HvaeCodecError(f"rank {rank} and world_size {world_size} are given together")
    if rank is None or world_size is None:
        known = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not known:
            return 0, 1
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, world_size = whole("rank", rank), whole("world_size", world_size)
    if not 0 <= rank < world_size:
        raise HvaeCodecError(f"rank lies in 0..{world_size - 1}, not {rank}")
    return rank, world_size

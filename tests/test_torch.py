"""Archives as data sets of PyTorch: real loaders with workers, against the archive itself."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.errors import (
    ArchiveError,
    BitstreamError,
    HvaeCodecError,
    ImageError,
    UnknownQualityError,
)
from hvae_codec.torch import ArchiveDataset, ArchiveStream, collate, decode_image, encode_image
from tests.codec.fully_convolutional.models import waves

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, BLOCK = 23, 4
FOLDERS = ["bird", "cat", "ant"]
LABELS = [(7 * number) % 5 for number in range(COUNT)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """23 images of MNIST's size in six blocks, with names in folders and labels."""
    file = tmp_path_factory.mktemp("torch") / "x.hvaa"
    images = [waves(28, 28, 1, number) for number in range(COUNT)]
    names = [f"{FOLDERS[number % 3]}/{number}.png" for number in range(COUNT)]
    codec = hvae_codec.load("mnist")
    with ArchiveWriter(file, codec, block_tiles=BLOCK, labels=True) as writer:
        writer.extend(images, names, LABELS)
    return file


@pytest.fixture(scope="module")
def images(path):
    with Archive(path) as archive:
        return list(archive)


def same(found, expected):
    """Whether pixels agree but for the rounding of networks in other batches."""
    return np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_items_are_the_archives_images_and_labels(path, images):
    dataset = ArchiveDataset(path)
    assert len(dataset) == COUNT
    image, label = dataset[5]
    assert (image.dtype, tuple(image.shape), image.is_contiguous()) == (
        torch.uint8,
        (1, 28, 28),
        True,
    )
    assert same(image.permute(1, 2, 0).numpy(), images[5])
    assert label == LABELS[5]
    assert dataset[-1][1] == LABELS[-1]
    assert [label for _, label in dataset.__getitems__([3, 0, 3])] == [
        *(LABELS[3], LABELS[0], LABELS[3]),
    ]
    with pytest.raises(IndexError, match="23 images, none of number 23"):
        dataset[23]
    assert len(list(dataset)) == COUNT


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_loader_with_workers_gives_what_the_archive_holds(path, images, context):
    loader = DataLoader(
        ArchiveDataset(path),
        batch_size=8,
        shuffle=False,
        num_workers=2,
        multiprocessing_context=context,
        collate_fn=collate,
    )
    batches = list(loader)
    assert [tuple(batch.shape) for batch, _ in batches] == [(8, 1, 28, 28)] * 2 + [(7, 1, 28, 28)]
    labels = torch.cat([labels for _, labels in batches])
    assert (labels.dtype, labels.tolist()) == (torch.int64, LABELS)
    pixels = torch.cat([batch for batch, _ in batches]).permute(0, 2, 3, 1).numpy()
    assert same(pixels, np.stack(images))


def test_targets_are_labels_folders_names_or_none(path):
    folders = ArchiveDataset(path, target="folder")
    assert folders.classes == ["ant", "bird", "cat"]
    assert [folders[number][1] for number in range(3)] == [1, 2, 0]
    assert ArchiveDataset(path, target="name")[4][1] == "cat/4.png"
    assert ArchiveDataset(path, target=None)[4][1] is None
    with pytest.raises(ArchiveError, match="a target is 'label', 'folder', 'name' or None, not"):
        ArchiveDataset(path, target="class")


def test_an_archive_without_such_targets_is_refused(tmp_path):
    file = tmp_path / "x.hvaa"
    with ArchiveWriter(file, hvae_codec.load("mnist")) as writer:
        writer.add(waves(28, 28, 1), "a/1")
        writer.add(waves(28, 28, 1), "2")
    with pytest.raises(ArchiveError, match="has no labels; take target='folder'"):
        ArchiveDataset(file)
    with pytest.raises(ArchiveError, match=r"image 1 \('2'\) lies in no folder"):
        ArchiveDataset(file, target="folder")


def test_transforms_change_images_and_targets(path):
    dataset = ArchiveDataset(
        path, transform=lambda image: image.float().mean(), target_transform=lambda y: -y
    )
    value, label = dataset[2]
    assert value == ArchiveDataset(path)[2][0].float().mean()
    assert label == -LABELS[2]


def test_features_are_the_archives(path):
    with Archive(path) as archive:
        z2, z1 = archive.layer_features(range(COUNT))
    top, both = ArchiveDataset(path, features=1), ArchiveDataset(path, features=2)
    vector, label = top[7]
    assert (vector.dtype, label) == (torch.float32, LABELS[7])
    np.testing.assert_allclose(vector.numpy(), z2.mean[7], rtol=1e-5)
    expected = np.concatenate([z2.mean, z1.mean], axis=1)
    found = torch.stack([vector for vector, _ in both.__getitems__(range(COUNT))])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    with pytest.raises(UnknownQualityError, match="layers"):
        ArchiveDataset(path, features=3)


def order_of(stream, **options):
    """Numbers of the images that a stream gives, by their names."""
    loader = DataLoader(stream, batch_size=None, collate_fn=None, **options)
    return [int(Path(name).stem) for _, name in loader]


def test_a_stream_gives_every_image_once_in_the_archives_order(path):
    assert order_of(ArchiveStream(path, target="name")) == list(range(COUNT))


def test_a_shuffled_stream_has_another_order_each_epoch(path):
    stream = ArchiveStream(path, target="name", shuffle=True, seed=3, pool=2)
    first = order_of(stream)
    assert order_of(stream) == first
    assert sorted(first) == list(range(COUNT))
    stream.set_epoch(1)
    second = order_of(stream)
    assert sorted(second) == list(range(COUNT))
    assert second != first
    # Two blocks at a time, whole: so many images of the first pool are of two blocks alone.
    assert len({number // BLOCK for number in first[: 2 * BLOCK]} - {COUNT // BLOCK}) <= 2


def test_workers_and_ranks_share_the_blocks(path):
    shares = [
        order_of(
            ArchiveStream(path, target="name", shuffle=True, rank=rank, world_size=2),
            num_workers=2,
            multiprocessing_context="spawn",
        )
        for rank in range(2)
    ]
    assert sorted(shares[0] + shares[1]) == list(range(COUNT))
    assert abs(len(shares[0]) - len(shares[1])) <= BLOCK


def test_workers_that_live_on_see_the_epoch(path):
    stream = ArchiveStream(path, target="name", shuffle=True)
    loader = DataLoader(
        stream, batch_size=None, num_workers=1, persistent_workers=True, collate_fn=None
    )
    orders = []
    for epoch in range(2):
        stream.set_epoch(epoch)
        orders.append([name for _, name in loader])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_a_stream_decodes_every_block_once(path, monkeypatch):
    read = []
    whole = Archive._block

    def counted(archive, entry, directory, group, layers):
        read.append(entry.first)
        return whole(archive, entry, directory, group, layers)

    monkeypatch.setattr(Archive, "_block", counted)
    assert len(list(ArchiveStream(path, shuffle=True))) == COUNT
    assert sorted(read) == list(range(0, COUNT, BLOCK))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is at least 0"),
        ({"pool": 0}, "pool 1, got 0 and 0"),
        ({"rank": 1}, "are given together"),
        ({"rank": 2, "world_size": 2}, r"rank lies in 0\.\.1, not 2"),
    ],
)
def test_arguments_that_make_no_stream(path, options, message):
    with pytest.raises(HvaeCodecError, match=message):
        ArchiveStream(path, **options)


def test_batches_of_mixed_sizes_and_targets_are_lists():
    one, other = torch.zeros(3, 2, 2), torch.zeros(3, 2, 4)
    values, targets = collate([(one, 1), (other, None)])
    assert [tuple(value.shape) for value in values] == [(3, 2, 2), (3, 2, 4)]
    assert targets == [1, None]


def test_an_image_goes_through_bytes_as_tensors(tmp_path):
    image = torch.from_numpy(waves(40, 33, 3)).permute(2, 0, 1)
    blob = encode_image(image, "cifar10", 3)
    assert (blob.dtype, blob.ndim) == (torch.uint8, 1)
    data = blob.numpy().tobytes()
    assert data == hvae_codec.load("cifar10", 3).encode(waves(40, 33, 3))
    expected = hvae_codec.decode(data)
    (tmp_path / "x.hvae").write_bytes(data)
    for source in (blob, data, tmp_path / "x.hvae", str(tmp_path / "x.hvae")):
        found = decode_image(source)
        assert (found.dtype, tuple(found.shape)) == (torch.uint8, (3, 40, 33))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    limited = encode_image(image, "cifar10", max_bytes=200)
    assert 0 < len(limited) <= 200
    png = io.BytesIO()
    Image.fromarray(expected).save(png, "PNG")
    with pytest.raises(BitstreamError, match="not a"):
        decode_image(png.getvalue())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), "not ndarray"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"not \[1, 3, 8, 8\]"),
        (torch.zeros(3, 8, 8), "uint8"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        encode_image(image, "cifar10")
    with pytest.raises(HvaeCodecError, match="exclude each other"):
        encode_image(torch.zeros(3, 8, 8, dtype=torch.uint8), quality=50, max_bytes=99)
    with pytest.raises(ImageError, match=r"uint8 \[N\], not torch.float32 \[4\]"):
        decode_image(torch.zeros(4))


def test_a_file_may_be_what_the_library_takes(images, tmp_path):
    blob = hvae_codec.load("mnist").encode(images[0])
    (tmp_path / "x.hvae").write_bytes(blob)
    expected = torch.from_numpy(hvae_codec.decode(blob).transpose(2, 0, 1).copy())
    array = np.frombuffer(blob, np.uint8)
    held = np.array(blob, dtype=object)
    path = tmp_path / "x.hvae"
    for source in (blob, bytearray(blob), memoryview(blob), array, held, path, str(path)):
        assert torch.equal(decode_image(source), expected)


@pytest.mark.parametrize(
    "source", [5, None, "", "\0", [b"x"], io.BytesIO(), np.zeros((2, 2), np.uint8)]
)
def test_what_is_no_file_is_the_librarys_own_error(source):
    with pytest.raises(HvaeCodecError):
        decode_image(source)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(9, dtype=torch.uint8, device="meta"),
        torch.zeros(9, dtype=torch.uint8).to_sparse(),
        torch.zeros(9),
        torch.nested.nested_tensor([torch.zeros(3), torch.zeros(2)], layout=torch.jagged),
    ],
    ids=["meta", "sparse", "float", "nested"],
)
def test_tensors_without_bytes_are_the_librarys_own_error(tensor):
    with pytest.raises(ImageError):
        decode_image(tensor)
    with pytest.raises(ImageError):
        encode_image(tensor)


@pytest.mark.parametrize("given", [5, None, b"x", io.BytesIO()])
def test_a_path_that_is_none_is_the_librarys_own_error(given):
    with pytest.raises(HvaeCodecError, match="path must be a path"):
        ArchiveDataset(given)


def test_an_epoch_is_checked_when_it_is_set(path):
    stream = ArchiveStream(path, shuffle=True)
    for epoch in (-1, 2**63, 1.0, "1"):
        with pytest.raises(HvaeCodecError, match="epoch"):
            stream.set_epoch(epoch)
    stream.set_epoch(2**63 - 1)
    assert sorted(label for _, label in stream) == sorted(LABELS)


def test_the_default_device_does_not_matter(path, images):
    with torch.device("meta"):
        stream = ArchiveStream(path)
        stream.set_epoch(1)
        found = list(stream)
    assert [label for _, label in found] == LABELS
    assert all(
        same(x.numpy(), y.transpose(2, 0, 1)) for (x, _), y in zip(found, images, strict=True)
    )


def test_targets_of_numpy_are_numbers_too():
    items = [(torch.zeros(2), np.int32(3)), (torch.zeros(2), -1)]
    targets = collate(items)[1]
    assert (targets.dtype, targets.tolist()) == (torch.int64, [3, -1])
    large = [(torch.zeros(2), 2**63), (torch.zeros(2), 1)]
    assert collate(large)[1] == [2**63, 1]
    with pytest.raises(HvaeCodecError, match="at least one item"):
        collate([])


def test_a_batch_may_come_from_a_generator(path):
    items = ArchiveDataset(path).__getitems__(number for number in (3, 1, 3))
    assert [label for _, label in items] == [LABELS[3], LABELS[1], LABELS[3]]


def test_a_label_that_is_changed_is_only_the_callers(tmp_path):
    label = {"class": "cat", "box": [1, 2]}
    with ArchiveWriter(tmp_path / "x.hvaa", hvae_codec.load("mnist"), labels=True) as writer:
        writer.add(waves(28, 28, 1, 0), label=label)

    def emptied(found):
        found["box"].clear()
        return found.pop("class")

    changing = ArchiveStream(tmp_path / "x.hvaa", target_transform=emptied)
    assert [[y for _, y in changing] for _ in range(2)] == [["cat"], ["cat"]]
    dataset = ArchiveDataset(tmp_path / "x.hvaa")
    dataset[0][1]["box"].clear()
    assert dataset[0][1] == label

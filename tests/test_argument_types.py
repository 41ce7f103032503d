"""Arguments of another type than the documented: the library's error, which names the argument.

Tensors stand for what has no truth value, 10**400 for what no float holds.
"""

import fractions
from decimal import Decimal

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec import Archive, ArchiveWriter
from hvae_codec.client import messages
from hvae_codec.data import load_dataset, load_folder, load_training
from hvae_codec.errors import (
    ArchiveError,
    DatasetError,
    HvaeCodecError,
    ImageError,
    SpecError,
    UnknownQualityError,
)
from hvae_codec.features import ArchivePictures
from hvae_codec.training import Recipe
from hvae_codec.utils.arguments import equals, shown

TILED, MAPS = hvae_codec.load("cifar10", 3), hvae_codec.load("cifar10-maps", 40)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
HUGE = [10**400, -(10**400), fractions.Fraction(10**400), 10**5_000]
NO_TRUTH = [
    torch.tensor([3, 4]),
    torch.zeros(3, 8, device="meta"),
    torch.sparse_coo_tensor(size=(3, 3)),
    torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    np.array([3, 4]),
    Decimal("sNaN"),
]
NESTED = NO_TRUTH[3]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "a.hvaa"
    with ArchiveWriter(path, TILED) as writer:
        writer.extend([IMAGE, IMAGE], ["n", None])
    return path


def recipe(**changed):
    return Recipe(**{"spec": "ghvae-32x32x3", "dataset": "d", "betas": (0.1, 0.1), **changed})


@pytest.mark.parametrize("given", HUGE, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("a quality", lambda x: hvae_codec.load("cifar10", x)),
        ("a quality", lambda x: hvae_codec.load("photo", x)),
        ("a quality", MAPS.at_quality),
        ("target_bytes", lambda x: hvae_codec.encode(IMAGE, "cifar10", target_bytes=x)),
        ("target_psnr", lambda x: hvae_codec.encode(IMAGE, "cifar10", target_psnr=x)),
        ("max_bytes", lambda x: hvae_codec.encode(IMAGE, "cifar10", max_bytes=x)),
        ("total_bytes", lambda x: hvae_codec.encode_within([IMAGE], x, "cifar10")),
        ("temperature", lambda x: TILED.sample(1, 0, x)),
        ("trade", lambda x: TILED.encode(IMAGE, effort=1, trade=x)),
        ("trade", lambda x: TILED.encode_batch([IMAGE, IMAGE], effort=1, trade=[1.0, x])),
        ("effort", lambda x: TILED.tuned(x)),
        ("effort", lambda x: MAPS.tuned(x)),
        ("effort", lambda x: hvae_codec.encode(IMAGE, "cifar10", max_bytes=500, effort=x)),
        ("learning_rate", lambda x: recipe(learning_rate=x)),
        ("betas", lambda x: recipe(betas=(x, 1.0))),
        ("recipe", lambda x: Recipe.from_json({**recipe().to_json(), "betas": [x, 1.0]})),
        ("target_bytes", lambda x: messages.selector("cifar10", None, target_bytes=x)),
        ("a quality", lambda x: messages.selector("cifar10", x)),
    ],
)
def test_numbers_that_no_float_holds(name, call, given):
    with pytest.raises(HvaeCodecError, match=name) as raised:
        call(given)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("given", NO_TRUTH, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("effort", lambda x: TILED.encode(IMAGE, effort=x)),
        ("effort", lambda x: TILED.tuned(x)),
        ("effort", lambda x: hvae_codec.load("cifar10", 3, effort=x)),
        ("effort", lambda x: MAPS.encode(IMAGE, effort=x)),
        ("effort", lambda x: hvae_codec.encode(IMAGE, "cifar10", max_bytes=500, effort=x)),
        ("effort", lambda x: hvae_codec.encode_within([IMAGE], 500, "cifar10", effort=x)),
        ("trade", lambda x: MAPS.encode(IMAGE, trade=x)),
        ("codec", lambda x: hvae_codec.encode(IMAGE, [x], max_bytes=500)),
        ("append", lambda x: ArchiveWriter("never.hvaa", TILED, append=x)),
        ("crop", lambda x: load_folder(".", crop=x)),
        ("crops", lambda x: load_folder(".", crops=x)),
        *(
            (field, lambda x, field=field: recipe(**{field: x}))
            for field in ("spec", "dataset", "epochs", "learning_rate", "seed", "schedule")
        ),
        ("channels_last", lambda x: recipe(channels_last=x)),
    ],
)
def test_what_has_no_truth_value(name, call, given):
    with pytest.raises(HvaeCodecError, match=name) as raised:
        call(given)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "call",
    [
        TILED.encode,
        TILED.encode_batch,
        TILED.encode_block,
        TILED.features,
        TILED.information_bits,
        TILED.reference,
        lambda x: TILED.encode_batch([x]),
        lambda x: hvae_codec.encode_within(x, 500),
    ],
)
def test_a_nested_tensor_is_no_image(call):
    with pytest.raises(ImageError, match="nested"):
        call(NESTED)


def test_a_nested_tensor_is_no_image_of_an_archive(tmp_path):
    with ArchiveWriter(tmp_path / "x.hvaa", TILED) as writer:
        for add in (writer.add, writer.extend):
            with pytest.raises(ImageError, match="nested"):
                add(NESTED)


@pytest.mark.parametrize(
    "given",
    ["cifar10", 3, b"x", IMAGE, [TILED]],
    ids=["name", "number", "bytes", "image", "codecs"],
)
def test_what_is_no_codec(archive, tmp_path, given):
    for call in (
        lambda: Archive(archive, given),
        lambda: ArchiveWriter(tmp_path / "x.hvaa", given),
        lambda: hvae_codec.encode(IMAGE, [given], max_bytes=500),
        lambda: hvae_codec.encode_within([IMAGE], 500, [given]),
    ):
        with pytest.raises(
            HvaeCodecError, match=r"a codec is needed, as `hvae_codec\.load` returns"
        ):
            call()
    assert list(tmp_path.iterdir()) == []


def test_what_is_neither_a_model_nor_codecs():
    for call in (
        lambda: hvae_codec.encode(IMAGE, 3, max_bytes=500),
        lambda: hvae_codec.encode_within([IMAGE], 500, 3),
    ):
        with pytest.raises(HvaeCodecError, match="a model is a name or codecs; got 3"):
            call()


@pytest.mark.parametrize("codec", [TILED, MAPS])
@pytest.mark.parametrize("given", ["x", [1], [None], b"x", 3, [IMAGE], {"a": 1}, NESTED], ids=repr)
def test_what_are_no_symbols(codec, given):
    for empty in ([], ()):
        assert codec.images_of(empty) == []
        shapes = [layer.mean.shape for layer in codec.features_of(empty)]
        assert shapes == [(0, dims) for dims in codec.info.z_dims]
    for call in (codec.images_of, codec.features_of):
        with pytest.raises(HvaeCodecError, match="symbols are a list of SymbolBatch"):
            call(given)
    with pytest.raises(HvaeCodecError, match="a header is what `read_header` returns"):
        codec.stated_shape(given)


def test_names_of_an_archive(archive):
    with Archive(archive) as opened:
        for given in (3, None, b"n", NESTED, ["n"]):
            with pytest.raises(ArchiveError, match="a name must be text, not"):
                opened.number(given)
        with pytest.raises(KeyError, match="no image named"):
            opened.number("\ud800")
        assert "\ud800" not in opened
        assert "n" in opened
    pictures = ArchivePictures(archive)
    for given in (10**400, NESTED):
        with pytest.raises(IndexError):
            pictures[given]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("x", "names are a list, one name or None for each image; got one str"),
        ("xy", "got one str"),
        (b"xy", "got one bytes"),
        (5, "got one int"),
        (["x"], "there are more images than names: each image has one name, or None; 1 were added"),
        ([], "there are more images than names: .* 0 were added"),
        (["x", "y", "z"], "there are more names than images: .* 2 were added"),
    ],
)
def test_names_that_are_not_as_many_as_images(tmp_path, names, message):
    with ArchiveWriter(tmp_path / "x.hvaa", TILED) as writer:
        with pytest.raises(ArchiveError, match=message):
            writer.extend([IMAGE, IMAGE], names)
        with pytest.raises(HvaeCodecError, match="a block is what `code_block` returns; got int"):
            writer.add_block(5)
    with Archive(tmp_path / "x.hvaa") as opened:
        added = 0 if not isinstance(names, list) else min(len(names), 2)
        assert opened.names == list(names[:added] if added else [])


@pytest.mark.parametrize("given", [5, None, b"cifar10", ["cifar10"]], ids=repr)
def test_data_sets_that_are_no_name(given):
    for call in (load_dataset, lambda name: load_training(name, crop=(8, 8))):
        with pytest.raises(
            DatasetError, match=r"a data set is given by its name: cifar10, .*; got"
        ):
            call(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "8"}, "crop must be a whole number; got str '8'"),
        ({"crop": None}, "crop must be a whole number; got NoneType None"),
        ({"crop": True}, "crop must be a whole number; got bool True"),
        ({"crop": 8.0}, "crop must be a whole number; got float 8.0"),
        ({"crop": (8, "8")}, "each side of a crop must be a whole number; got str '8'"),
        ({"crop": (8, 8, 8)}, r"crop is a side or \(height, width\), in pixels; got \(8, 8, 8\)"),
        ({"crop": -1}, "crop must be at least 1, got -1"),
        ({"crops": "2"}, "crops must be a whole number; got str '2'"),
        ({"crops": 1.5}, "crops must be a whole number; got float 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"split": 5}, "a split is a name; got int 5"),
    ],
)
def test_how_a_folder_is_cut(tmp_path, arguments, message):
    for call in (
        lambda: load_dataset(f"folder:{tmp_path}", **arguments),
        lambda: load_folder(tmp_path, **arguments),
    ):
        with pytest.raises(DatasetError, match=message):
            call()
    if "crop" in arguments:
        with pytest.raises(DatasetError, match=message):
            load_dataset(f"photos:{tmp_path}", **arguments)


def test_folders_and_roots_that_are_no_path():
    with pytest.raises(DatasetError, match="a folder is a path; got int 5"):
        load_folder(5)
    with pytest.raises(DatasetError, match="root is a directory's path; got int"):
        load_dataset("cifar10", root=5)
    with pytest.raises(DatasetError, match="has the splits train and test, not 5"):
        load_dataset("cifar10", 5)


@pytest.mark.parametrize(
    ("field", "given", "message"),
    [
        ("epochs", "3", "epochs must be a whole number; got str '3'"),
        ("epochs", 2.5, "epochs must be a whole number"),
        ("learning_rate", "x", "learning_rate must be a number; got str 'x'"),
        ("learning_rate", 1j, "learning_rate must be a number; got complex 1j"),
        ("betas", "ab", "betas must be numbers, one for each layer; got 'ab'"),
        ("betas", 5, "betas must be numbers, one for each layer; got 5"),
        ("betas", (None, 1.0), "each of betas must be a number; got NoneType None"),
        ("rates", ("x", None), "each of rates must be a number; got str 'x'"),
        ("spec", 5, "spec must be text; got int 5"),
        ("posterior", ["uniform"], "posterior must be text; got list"),
        ("channels_last", "no", "channels_last must be True or False; got str 'no'"),
        ("seed", None, "seed must be a whole number; got NoneType None"),
    ],
)
def test_fields_of_a_recipe(field, given, message):
    with pytest.raises(SpecError, match=message):
        recipe(**{field: given})


def test_numbers_of_other_kinds_are_taken():
    taken = recipe(epochs=np.int64(3), learning_rate=Decimal("0.5"), betas=[1, np.float32(2)])
    assert (taken.epochs, float(taken.learning_rate)) == (3, 0.5)
    blob = TILED.encode(IMAGE, effort=1)
    for effort in (1.0, np.int8(1), Decimal(1), True):
        assert TILED.encode(IMAGE, effort=effort) == blob
    assert MAPS.encode(IMAGE, effort=np.float64(0), trade=1) == MAPS.encode(IMAGE)
    with pytest.raises(UnknownQualityError, match=r"a quality is a number; got str '3'"):
        hvae_codec.load("cifar10", "3")


def test_what_messages_show():
    assert shown("x" * 500) == "'" + "x" * 79 + "..."
    assert shown(10**5_000) == "a int"
    assert shown("a\nb") == r"'a\nb'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert not any(equals(each, 0) for each in [*NO_TRUTH, *HUGE, "0", None, float("nan")])
    assert equals(np.float32(0), 0)

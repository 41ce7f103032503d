"""Fields of samples in webdataset, Hugging Face's data sets and litData; columns of bytes."""

import io
import pickle
import re
import subprocess
import sys

import datasets
import lance
import litdata
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import webdataset as wds
from PIL import Image

import hvae_codec
import hvae_codec.pillow_plugin
from hvae_codec.errors import (
    BitstreamError,
    CorruptError,
    HvaeCodecError,
    ImageError,
    NotAnHvaeFileError,
)
from hvae_codec.stores.samples import DecodeFields, EncodeFields
from hvae_codec.stores.webdataset import TarEncoder, decoder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(codec, images):
    return codec.encode_batch(images)


@pytest.fixture(scope="module")
def decoded(codec, files):
    return codec.decode_batch(files)


def near(found, expected):
    """Whether pixels agree but for the rounding of networks in other batches."""
    return np.abs(np.asarray(found).astype(int) - expected.astype(int)).max() <= 1


def damaged(file):
    return file[:-1] + bytes([file[-1] ^ 1])


def test_fields_of_samples(codec, images, files, decoded):
    encode, decode = EncodeFields(codec, "image"), DecodeFields("image")
    sample = {"image": images[0], "label": 3}
    coded = encode(sample)
    assert (coded, sample["image"].shape) == ({"image": files[0], "label": 3}, (32, 32, 3))
    assert encode(coded) == coded
    assert near(decode(coded)["image"], decoded[0])
    batch = encode({"image": list(images)})
    assert batch == {"image": files} == encode({"image": [images[0], *files[1:]]})
    assert near(decode(batch)["image"], decoded)
    mixed = [files[0], hvae_codec.load("cifar10", 1).encode(images[1])]
    assert len(decode({"image": mixed})["image"]) == 2
    first, label = DecodeFields(0)((files[0], 7))
    assert near(first, decoded[0])
    assert label == 7
    assert isinstance(DecodeFields(-1)([1, files[0]]), list)
    assert near(pickle.loads(pickle.dumps(decode))(coded)["image"], decoded[0])
    assert pickle.loads(pickle.dumps(encode))(sample) == coded


def test_wrong_samples(codec, images, files):
    for sample, reason in (
        ({"picture": files[0]}, "lacks field 'image'; it has picture"),
        ((files[0],), "lacks field 'image'; it has 1"),
        (files[0], "a sample is a mapping, tuple or list; got bytes"),
    ):
        with pytest.raises(HvaeCodecError, match=reason):
            DecodeFields("image")(sample)
    with pytest.raises(CorruptError, match="field 'image': damaged"):
        DecodeFields("image")({"image": damaged(files[0])})
    with pytest.raises(NotAnHvaeFileError, match=r"field 'image' of sample 'a/7': not a .hvae"):
        EncodeFields(codec, "image")({"image": b"text", "__key__": "a/7"})
    with pytest.raises(ImageError, match="field 'image': an image must be uint8"):
        EncodeFields(codec, "image")({"image": images[0] / 255})
    for wrong in ((), (2.5,)):
        with pytest.raises(HvaeCodecError, match="names or positions"):
            DecodeFields(*wrong)
    with pytest.raises(HvaeCodecError, match="a codec is needed"):
        EncodeFields("cifar10", "image")


def test_webdataset(tmp_path, codec, images, files, decoded):
    path = str(tmp_path / "a.tar")
    Image.fromarray(images[2]).save(tmp_path / "2.png")
    with wds.TarWriter(path, encoder=TarEncoder(codec)) as tar:
        tar.write({"__key__": "a/0", "hvae": images[0], "cls": 4})
        tar.write({"__key__": "a/1", "left.hvae": files[1], "json": {"x": 1}})
        tar.write({"__key__": "a/2", "HVAE": str(tmp_path / "2.png"), "txt": "words"})
    plain = list(wds.WebDataset(path, shardshuffle=False))
    assert [plain[0]["hvae"], plain[1]["left.hvae"], plain[2]["hvae"]] == files[:3]
    first, second, third = wds.WebDataset(path, shardshuffle=False).decode(decoder)
    assert near([first["hvae"], second["left.hvae"], third["hvae"]], decoded[:3])
    assert (first["cls"], second["json"], third["txt"]) == (4, {"x": 1}, "words")


def test_wrong_fields_for_webdataset(tmp_path, codec):
    with wds.TarWriter(str(tmp_path / "a.tar"), encoder=TarEncoder(codec)) as tar:
        with pytest.raises(BitstreamError, match=r"field 'hvae' of sample 'a': not a .hvae file"):
            tar.write({"__key__": "a", "hvae": b"others"})
        with pytest.raises(ImageError, match="field 'hvae' of sample 'b'"):
            tar.write({"__key__": "b", "hvae": "absent.png"})
        with pytest.raises(ValueError, match="no handler found for absent"):
            tar.write({"__key__": "c", "absent": [1]})
    assert (
        list(wds.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False)) == []
    )


def test_damaged_members_reach_webdatasets_handlers(tmp_path, files):
    path = str(tmp_path / "a.tar")
    with wds.TarWriter(path) as tar:
        for number, file in enumerate([files[0], damaged(files[1]), files[2]]):
            tar.write({"__key__": f"{number}", "hvae": file})
    with pytest.raises(wds.DecodingError) as raised:
        list(wds.WebDataset(path, shardshuffle=False).decode(decoder))
    assert (raised.value.key, raised.value.k) == ("1", "hvae")
    assert str(raised.value.__cause__).startswith("member '.hvae': damaged .hvae file")
    errors = []
    fields = DecodeFields("hvae")
    kept = wds.WebDataset(path, shardshuffle=False).map(
        fields, handler=lambda error: errors.append(error) or True
    )
    assert [sample["__key__"] for sample in kept] == ["0", "2"]
    (error,) = errors
    assert isinstance(error, CorruptError)
    assert str(error).startswith("field 'hvae' of sample '1': damaged .hvae file")


def test_hugging_face_data_sets(codec, images, decoded, tmp_path):
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "0.png")] * 3, "label": range(3)})
    coded = rows.map(EncodeFields(codec, "image"), batched=True)
    assert coded[0]["image"] == codec.encode(images[0])
    from_column = rows.cast_column("image", datasets.Image()).map(EncodeFields(codec, "image"))
    column = from_column.cast_column("image", datasets.Image(decode=False))
    assert column[1]["image"] == {"bytes": coded[1]["image"], "path": None}
    for data in (coded, column):
        changed = data.map(lambda row: {**row, "label": row["label"] + 1})
        assert changed[2]["image"] == data[2]["image"]
        read = changed.with_transform(DecodeFields("image"))[:2]
        assert read["label"] == [1, 2]
        assert near(read["image"], np.stack([decoded[0]] * 2))


def test_a_map_of_decoded_images_encodes_them_again(files):
    """Why the guide shows `decode=False`: the library's behaviour, with any lossy format."""
    rows = datasets.Dataset.from_dict({"image": [{"bytes": files[0], "path": None}], "label": [1]})
    rows = rows.cast_column("image", datasets.Image())
    changed = rows.map(lambda row: {**row, "label": 2})
    found = changed.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]
    assert Image.open(io.BytesIO(found)).format == "HVAE"
    assert found != files[0]


def test_litdata(tmp_path, codec, images, decoded, monkeypatch):
    # Both are emptied; by default they are shared with whatever else runs.
    monkeypatch.setenv("DATA_OPTIMIZER_CACHE_FOLDER", str(tmp_path / "chunks"))
    monkeypatch.setenv("DATA_OPTIMIZER_DATA_CACHE_FOLDER", str(tmp_path / "data"))
    samples = [{"image": image, "label": number} for number, image in enumerate(images[:4])]
    litdata.optimize(
        EncodeFields(codec, "image"),
        samples,
        output_dir=str(tmp_path / "lit"),
        chunk_bytes="1MB",
        num_workers=1,
        verbose=False,
    )
    stream = litdata.StreamingDataset(str(tmp_path / "lit"), transform=DecodeFields("image"))
    assert near([stream[number]["image"] for number in range(4)], decoded[:4])
    assert [stream[number]["label"] for number in range(4)] == [0, 1, 2, 3]


def test_columns_of_parquet_and_lance(tmp_path, codec, decoded):
    lengths = np.random.default_rng(0)
    values = [lengths.bytes(30) for _ in range(10_000)]
    table = pyarrow.table({"image": values})
    sizes = {}
    for encoding in ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY"):
        path = tmp_path / f"{encoding}.parquet"
        options = {"use_dictionary": False, "column_encoding": {"image": encoding}}
        pyarrow.parquet.write_table(table, path, compression="none", **options)
        sizes[encoding] = path.stat().st_size / len(values)
    assert sizes["PLAIN"] == pytest.approx(34, abs=0.1)
    assert sizes["DELTA_LENGTH_BYTE_ARRAY"] == pytest.approx(30, abs=0.2)
    lance.write_dataset(table, tmp_path / "a.lance")
    assert lance.dataset(tmp_path / "a.lance").take([9, 2])["image"].to_pylist() == [
        values[9],
        values[2],
    ]


LIBRARIES = ("zarr", "numcodecs", "webdataset", "datasets", "litdata", "lance", "pyarrow", "xarray")
ALONE = f"""
import importlib, sys, hvae_codec, hvae_codec.torch
from hvae_codec.errors import MissingDependencyError
from hvae_codec.stores import samples, webdataset
codec = hvae_codec.load("cifar10")
print(sorted(set({LIBRARIES}) & set(sys.modules)))
for name in ("zarr", "numcodecs", "webdataset"):
    sys.modules[name] = None
    try:
        importlib.import_module("hvae_codec.stores." + name).TarEncoder(codec)
    except MissingDependencyError as error:
        print(name, error)
"""


def test_libraries_are_imported_when_they_are_used_and_named_where_they_are_missing():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    imported, *missing = done.stdout.splitlines()
    assert imported == "[]"
    for line, library in zip(missing, ("zarr", "numcodecs", "webdataset"), strict=True):
        assert re.fullmatch(rf"{library} .* needs {library}.*'hvae-codec\[stores\]'", line)

"""`hvae-codec features` and `sample`, against the library."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.codec.images.load import as_uint8

Q1 = ("--quality", "1")


@pytest.fixture
def codec():
    return hvae_codec.load("cifar10", quality=1)


@pytest.fixture
def encoded(codec, mixed_folder):
    """The mixed folder with each good picture's file, at quality 2, beside it; their bytes."""
    _, good, _ = mixed_folder
    blobs = hvae_codec.load("cifar10", quality=2).encode_batch(good)
    for path, blob in zip(good, blobs, strict=True):
        path.with_suffix(".hvae").write_bytes(blob)
    return blobs


def test_features_of_a_folder_with_pictures_and_files(run, codec, mixed_folder, encoded, tmp_path):
    folder, good, bad = mixed_folder
    done = run("features", folder, *Q1, "--output", tmp_path / "z2.npz", "--json")
    assert done.code == 1
    assert len(done.err.splitlines()) == len(bad)
    files = sorted(map(str, [*good, *(path.with_suffix(".hvae") for path in good)]))
    assert [row["input"] for row in done.json if "error" not in row] == files
    assert {row["input"] for row in done.json if "error" in row} == set(map(str, bad))
    arrays = np.load(tmp_path / "z2.npz", allow_pickle=False)
    assert arrays["files"].tolist() == files
    assert arrays["mean"].dtype == arrays["std"].dtype == np.float32
    np.testing.assert_array_equal(
        arrays["mean"], [row["mean"] for row in done.json if "error" not in row]
    )
    second = hvae_codec.load("cifar10", quality=2)
    is_file = np.array([name.endswith(".hvae") for name in files])
    expected = codec.features([as_uint8(path) for path in sorted(good)])
    np.testing.assert_allclose(arrays["mean"][~is_file], expected.mean, atol=1e-5)
    np.testing.assert_allclose(arrays["std"][~is_file], expected.std, rtol=1e-5)
    from_bytes = second.features_from_bytes(encoded)
    np.testing.assert_array_equal(arrays["mean"][is_file], from_bytes.mean)
    np.testing.assert_array_equal(arrays["std"][is_file], from_bytes.std)
    ids = np.where(is_file, second.info.model_id, codec.info.model_id)
    assert arrays["models"].tolist() == ids.tolist()


def test_features_need_only_the_first_bytes(run, codec, picture, tmp_path):
    blob = codec.encode(picture(32, 32, 3, 1))
    (tmp_path / "cut.hvae").write_bytes(blob[:-1])
    done = run("features", tmp_path / "cut.hvae")
    name, *values = done.out.split()
    assert name == str(tmp_path / "cut.hvae")
    expected = codec.features_from_bytes(blob).mean[0]
    assert values == [f"{value:.3f}" for value in expected]


def test_nothing_is_written_where_every_file_is_bad(run, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    done = run("features", tmp_path / "a.png", "--output", tmp_path / "z2.npz", "--json")
    assert done.code == 1
    assert [set(row) for row in done.json] == [{"input", "error"}]
    assert done.error() == done.json[0]["error"]
    assert not (tmp_path / "z2.npz").exists()


def test_an_output_that_is_a_folder_is_refused_before_the_work(run, save, picture, tmp_path):
    source = save(tmp_path / "a.png", picture(32, 32, 3, 0))
    for words in (["features", source], ["sample"]):
        done = run(*words, "--output", tmp_path)
        assert (done.code, done.error()) == (
            1,
            f"{tmp_path} is a folder; --output must name a file",
        )


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (5, 5, 1), (19, 8, 3)])
def test_samples_lie_row_by_row_on_the_sheet(run, codec, tmp_path, count, columns, rows):
    words = ["--count", count, "--seed", 7, "--temperature", 0.5, *Q1]
    done = run("sample", *words, "--output", tmp_path / "s.png", "--json")
    assert done.json == {
        "output": str(tmp_path / "s.png"),
        "model_id": codec.info.model_id,
        "count": count,
        "seed": 7,
        "temperature": 0.5,
    }
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape == (32 * rows, 32 * columns, 3)
    pictures = codec.sample(count, seed=7, temperature=0.5)
    for index in range(rows * columns):
        y, x = 32 * (index // columns), 32 * (index % columns)
        place = sheet[y : y + 32, x : x + 32]
        expected = pictures[index] if index < count else np.full((32, 32, 3), 255)
        np.testing.assert_array_equal(place, expected)


def test_more_samples_than_a_picture_holds_are_refused_before_they_are_drawn(run, tmp_path):
    done = run("sample", "--count", "10000000000", "--output", tmp_path / "s.png")
    assert done.code == 1
    assert done.error().startswith("image of 256x40000000000 pixels; at most 65,535 on a side")


def test_samples_of_a_grey_model_are_grey(run, grey_models, monkeypatch, tmp_path):
    monkeypatch.setenv("HVAE_MODELS", str(grey_models))
    done = run("sample", "--model", "grey", "--count", "2", "--output", tmp_path / "s.png")
    assert done.out == f"2 samples in {tmp_path / 's.png'}\n"
    assert (Image.open(tmp_path / "s.png").mode, Image.open(tmp_path / "s.png").size) == (
        "L",
        (56, 28),
    )

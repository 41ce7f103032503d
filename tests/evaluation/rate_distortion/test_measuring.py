"""Points of curves against figures worked out here; results that are kept; the time left."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image
from ssimulacra2 import compute_ssimulacra2

import hvae_codec
from hvae_codec.errors import EvaluationError, UnknownModelError
from hvae_codec.evaluation.rate_distortion import curves
from hvae_codec.evaluation.rate_distortion.comparison import bd_rates, equal_psnr
from hvae_codec.evaluation.rate_distortion.curves import Curve, Job, choose_curves
from hvae_codec.evaluation.rate_distortion.equal_bytes import views
from hvae_codec.evaluation.rate_distortion.image_set import load_image_set
from hvae_codec.evaluation.rate_distortion.peers import lossy_peers, quick_peers
from hvae_codec.evaluation.rate_distortion.points import SSIMULACRA2, point_of, size_key
from hvae_codec.evaluation.rate_distortion.run import claim, measure_curves
from hvae_codec.evaluation.rate_distortion.time_left import TimeLeft, in_words
from tests.photographs import load_sample_image


@pytest.fixture
def tiles(photographs):
    """Five images of 16x16 pixels, cut from a photograph."""
    photograph = photographs[0]
    return [photograph[y : y + 16, x : x + 16].copy() for y in (0, 16) for x in (0, 16, 32)][:5]


@pytest.fixture
def tile_folder(tiles, tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for index, tile in enumerate(tiles):
        Image.fromarray(tile).save(folder / f"{index}.png")
    return folder


def chunk(pictures):
    return np.stack(pictures)


def psnr(original, decoded):
    error = np.mean((original.astype(float) - decoded.astype(float)) ** 2)
    return 10.0 * math.log10(255.0**2 / error)


def test_a_sheet_is_one_file_of_the_tiles(tiles):
    """Five tiles in two rows of three, the last one twice; bytes are those of the file over 5."""
    rows = curves.measure(
        Job(Curve("x", "sheets", "JPEG", (60,), "", side=32), 60, chunk(tiles), ())
    )
    sheet = np.vstack([np.hstack(tiles[:3]), np.hstack([tiles[3], tiles[4], tiles[4]])])
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "JPEG", quality=60, optimize=True, subsampling="4:2:0")
    assert [row["file_bytes"] for row in rows] == [len(buffer.getvalue()) / 5] * 5
    decoded = np.asarray(Image.open(buffer).convert("RGB"))
    cut = [decoded[y : y + 16, x : x + 16] for y in (0, 16) for x in (0, 16, 32)]
    wanted = np.mean([psnr(a, b) for a, b in zip(tiles, cut, strict=False)])
    point = point_of(rows)
    assert point["psnr_db"] == pytest.approx(wanted, abs=1e-3)
    assert point["bits_per_pixel"] == pytest.approx(8 * len(buffer.getvalue()) / 5 / 256, abs=1e-5)


def test_a_block_is_one_file_of_ours(photographs):
    tile = photographs[0][:32, :32]
    pictures = [tile, np.ascontiguousarray(tile[::-1])]
    (*_, last) = curves.measure(
        Job(Curve("x", "blocks", "cifar10", (2,), ""), 2, chunk(pictures), ())
    )
    blob = hvae_codec.load("cifar10", 2).encode_block(chunk(pictures), effort=0)
    assert last["file_bytes"] == len(blob) / 2


def test_grey_images_are_coded_grey(photographs):
    grey = photographs[0][:, :, :1].copy()
    for peer in quick_peers(40):
        if peer.missing() is None:
            blob = peer.encode(grey, peer.settings[-1])
            assert peer.decode(blob, 1).shape == grey.shape
    jpeg = next(peer for peer in lossy_peers(40) if peer.name == "JPEG")
    with Image.open(io.BytesIO(jpeg.encode(grey, 50))) as picture:
        assert picture.mode == "L"


def test_small_images_of_one_size_have_sheets_and_blocks(tile_folder, tmp_path):
    images = load_image_set(str(tile_folder))
    kinds = {curve.kind for curve in choose_curves(images, ("auto",), thorough=False)[0]}
    assert kinds == {"ours", "blocks", "peer", "sheets"}
    Image.new("RGB", (17, 16)).save(tile_folder / "other.png")
    found, _ = choose_curves(load_image_set(str(tile_folder)), ("auto",), thorough=False)
    assert {curve.kind for curve in found} == {"ours", "peer"}
    assert {curve.codec for curve in found if curve.ours} == {"cifar10", "cifar10-maps"}


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("nothing", UnknownModelError, "no model 'nothing'; there are cifar10,"),
        ("mnist", EvaluationError, "black and white"),
    ],
)
def test_a_model_that_cannot_be_compared(tile_folder, model, error, words):
    with pytest.raises(error, match=words):
        choose_curves(load_image_set(str(tile_folder)), (model,), thorough=False)


def test_points_that_were_measured_are_read_and_damaged_ones_measured_again(tile_folder, tmp_path):
    images = load_image_set(str(tile_folder))
    out = tmp_path / "out"
    claim(out, images)
    jpeg = Curve("JPEG", "peer", "JPEG", (26, 66), "as ever", side=16, quick=False)
    said = []

    def measured():
        return measure_curves(images, [jpeg], ["SSIM"], out, workers=1, say=said.append)["JPEG"]

    first = measured()
    assert [row["setting"] for row in first] == [26, 66]
    files = sorted((out / "points").iterdir())
    assert len(files) == 2
    held = json.loads(files[0].read_text())
    held["point"]["psnr_db"] = 1.0
    files[0].write_text(json.dumps(held))
    files[1].write_text(files[1].read_text()[:50])
    again = measured()
    assert sorted(row["psnr_db"] for row in again) == [1.0, first[1]["psnr_db"]]
    assert said[0] == "1 of 2 points were measured before"
    assert json.loads(files[1].read_text())["point"]["psnr_db"] == first[1]["psnr_db"]


def test_ssimulacra2_of_some_images_is_set_against_their_bytes(tmp_path):
    side = 300  # two images make a part; the first and the third of three are measured
    china = load_sample_image("china.jpg")
    crops = [china[y : y + side, x : x + side] for y in (0, 100) for x in (0, 150, 300)]
    (tmp_path / "in").mkdir()
    for index, crop in enumerate(crops):
        Image.fromarray(crop).save(tmp_path / "in" / f"{index}.png")
    images, out = load_image_set(str(tmp_path / "in")), tmp_path / "out"
    jpeg = Curve("JPEG", "peer", "JPEG", (26,), "as ever", side=side, quick=False)
    claim(out, images)
    (point,) = measure_curves(
        images, [jpeg], [SSIMULACRA2], out, workers=1, say=print, ssimulacra2_step=2
    )["JPEG"]
    peer = next(peer for peer in lossy_peers(side) if peer.name == "JPEG")
    blobs = [peer.encode(crop, 26) for crop in crops]
    some = [0, 1, 4, 5]
    scores = []
    for index in some:
        sides = io.BytesIO(), io.BytesIO(blobs[index])
        Image.fromarray(crops[index]).save(sides[0], "PNG")
        scores.append(compute_ssimulacra2(*sides))
    assert point[SSIMULACRA2] == pytest.approx(np.mean(scores), abs=2e-3)
    assert point["file_bytes"] == pytest.approx(np.mean([len(blob) for blob in blobs]), abs=1e-3)
    size = np.mean([len(blobs[index]) for index in some])
    assert point["SSIMULACRA2_images"] == len(some)
    assert point["SSIMULACRA2_file_bytes"] == pytest.approx(size, abs=1e-3)
    assert point["SSIMULACRA2_bits_per_pixel"] == pytest.approx(8 * size / side**2, abs=1e-5)
    assert size_key([point], SSIMULACRA2) == "SSIMULACRA2_file_bytes"
    assert size_key([point], "psnr_db") == "file_bytes"


def test_a_folder_of_other_images_is_refused(tile_folder, tmp_path):
    out = tmp_path / "out"
    claim(out, load_image_set(str(tile_folder)))
    claim(out, load_image_set(str(tile_folder)))
    with pytest.raises(EvaluationError, match=r"other images \(5 in tiles\), not of these 2"):
        claim(out, load_image_set(str(tile_folder), 2))
    with pytest.raises(EvaluationError, match="not empty"):
        claim(tile_folder, load_image_set(str(tile_folder)))


def test_views_of_small_images_keep_to_the_bytes_of_ours(photographs, tmp_path):
    """A sheet of four tiles: each codec has at most the bytes, or is at its coarsest setting."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for index in range(4):
        tile = photographs[index % 2][index : index + 32, :32]
        Image.fromarray(tile).save(folder / f"{index}.png")
    images = load_image_set(str(folder))
    found, _ = choose_curves(images, ("auto",), thorough=False)
    kept = [curve for curve in found if curve.ours or curve.codec == "JPEG"]
    shown = views(images, kept, tmp_path, workers=1)
    assert [view["codec"] for view in shown] == [
        "original",
        *["cifar10", "cifar10-maps", "JPEG"] * 2,
    ]
    first, second = (shown[1]["budget"], shown[4]["budget"])
    assert 0 < first < second
    for view in shown[1:]:
        assert view["bytes"] <= view["budget"] or view["codec"] == "JPEG"
        with Image.open(io.BytesIO(base64.b64decode(view["webp"]))) as picture:
            assert picture.size == (64 * 6, 64 * 6)  # four tiles, enlarged


def rows_of(factor, first=20.0, last=26.0):
    """Bytes = factor * 10 * 2^(PSNR - 20)."""
    return [
        {"quality": 1, "bits_per_pixel": 1.0, "psnr_db": psnr}
        | {"file_bytes": factor * 10.0 * 2.0 ** (psnr - 20.0)}
        for psnr in np.linspace(first, last, 7).tolist()
    ]


def test_comparisons_of_known_curves():
    found = [Curve("a", "ours", "a", (1,), ""), Curve("p", "peer", "p", (1,), "")]
    found.append(Curve("far", "peer", "far", (1,), ""))
    rows = {"a": rows_of(0.6), "p": rows_of(1.0), "far": rows_of(1.0, 40.0, 44.0)}
    rates = bd_rates(found, rows, ["psnr_db"])
    assert [(rate["against"], rate["psnr_db"]) for rate in rates] == [("p", -40.0), ("far", None)]
    table = equal_psnr(found, rows)
    assert [row["psnr_db"] for row in table] == pytest.approx([20.0, 21.0, 23.0, 25.0, 26.0], abs=1)
    for row in table:
        assert row["peers"]["far"] is None
        assert row["bytes"] / row["peers"]["p"] == pytest.approx(0.6, abs=1e-3)


def test_the_time_left_follows_from_what_each_kind_took():
    left = TimeLeft({"fast": 100.0, "slow": 100.0, "unknown": 10.0}, workers=2)
    assert left.seconds() is None
    left.done("fast", 50.0, 5.0)
    left.done("slow", 10.0, 30.0)
    # 50 * 0.1 + 90 * 3 + 10 * (0.1 + 3) / 2, on two workers.
    assert left.seconds() == pytest.approx((5.0 + 270.0 + 15.5) / 2)
    assert [in_words(s) for s in (None, 40.2, 600.0, 7500.0)] == [
        "unknown time",
        "40 s",
        "10 min",
        "2 h 05 min",
    ]

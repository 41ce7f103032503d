"""A small run's figures against ones worked out here from the same pictures."""

import io
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from benchmarks.rate_distortion.__main__ import Material, load_material, measure
from hvae_codec.errors import DatasetError
from hvae_codec.evaluation.metrics.perceptual import ssimulacra2
from hvae_codec.evaluation.rate_distortion.container_bytes import payload_bytes
from hvae_codec.evaluation.rate_distortion.peers import available_peers, binary_peers, lossy_peers
from hvae_codec.evaluation.rate_distortion.points import Coded, point

PIXELS = 48 * 40


def mean_psnr(originals, decoded):
    errors = [
        np.mean((a.astype(float) - b.astype(float)) ** 2)
        for a, b in zip(originals, decoded, strict=True)
    ]
    return np.mean([10.0 * math.log10(255.0**2 / error) for error in errors])


@pytest.mark.parametrize("effort", [0, 2])
def test_our_rows_are_of_every_rung(effort, run, photographs):
    rows = run.result["ours"][str(effort)]
    rungs = [info.quality for info in hvae_codec.models() if info.name == "cifar10"]
    assert [row["quality"] for row in rows] == rungs
    for row in rows[::2]:
        blobs = [
            hvae_codec.load("cifar10", row["quality"]).encode(picture, effort=effort)
            for picture in photographs
        ]
        assert row["file_bytes"] == np.mean([len(blob) for blob in blobs])
        assert row["payload_bytes"] == np.mean([payload_bytes(".hvae", blob) for blob in blobs])
        assert row["bits_per_pixel"] == pytest.approx(8 * row["file_bytes"] / PIXELS, abs=1e-5)
        decoded = [hvae_codec.decode(blob) for blob in blobs]
        assert row["psnr_db"] == pytest.approx(mean_psnr(photographs, decoded), abs=1e-3)


def test_information_and_rates_are_of_whole_pictures(run):
    """Of four tiles each: the payload is the content to a byte; Eq. 7's rate in nats."""
    for rows in run.result["ours"].values():
        for row in rows:
            assert abs(row["payload_bytes"] - row["information_bytes"]) <= 1.0
            nats = sum(row["rates_nats"])
            assert row["elbo_bytes"] == pytest.approx(nats / math.log(2.0) / 8.0, abs=1e-3)
            assert 0.4 < row["elbo_bytes"] / row["information_bytes"] < 3.0
            assert "block_file_bytes" not in row


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def cwebp(picture, quality):
    options = ["-quiet", "-sharp_yuv", "-sns", "0", "-m", "6", "-q", str(quality)]
    command = ["cwebp", *options, "-o", "-", "--", "-"]
    return subprocess.run(command, input=saved(picture, "PNG"), capture_output=True).stdout


def test_a_peers_rows_are_of_its_files(run, photographs):
    """WebP by cwebp where it is on PATH, and the result says by which."""
    row = next(row for row in run.result["peers"]["WebP"] if row["setting"] == 12)
    there = shutil.which("cwebp") is not None
    assert ("-sharp_yuv" in run.result["peer_settings"]["WebP"]) == there
    blobs = [cwebp(p, 12) if there else saved(p, "WEBP", quality=12, method=6) for p in photographs]
    decoded = [np.asarray(Image.open(io.BytesIO(blob)).convert("RGB")) for blob in blobs]
    assert row["file_bytes"] == np.mean([len(blob) for blob in blobs])
    assert row["payload_bytes"] == pytest.approx(row["file_bytes"] - 20.0, abs=1.0)  # padding
    assert row["psnr_db"] == pytest.approx(mean_psnr(photographs, decoded), abs=1e-3)


def test_finer_settings_give_better_pictures_for_more_bytes(run):
    by_name = dict(run.result["peers"])
    jpeg = by_name.pop("JPEG")
    flat = [row for row in jpeg if str(row["setting"]).startswith("flat")]
    by_name |= {"JPEG's tables": [row for row in jpeg if row not in flat], "flat tables": flat}
    for name, rows in by_name.items():
        sizes = [row["file_bytes"] for row in rows]
        psnrs = [row["psnr_db"] for row in rows]
        assert sizes[-1] > 1.5 * sizes[0], name
        assert psnrs[-1] > psnrs[0] + 5.0, name
        assert all(0.0 < row["payload_bytes"] < row["file_bytes"] for row in rows), name


def test_pictures_too_small_for_ms_ssim_get_ssim(run):
    assert run.result["similarity"] == "SSIM"
    assert "too small" in run.result["definitions"]["SSIM"]
    assert all(0.0 < row["SSIM"] < 1.0 for row in run.result["ours"]["0"])


def test_flat_tables_have_one_step(photographs):
    peer = next(peer for peer in lossy_peers(600) if peer.name == "JPEG")
    with Image.open(io.BytesIO(peer.encode(photographs[0], "flat 26"))) as picture:
        assert {tuple(table) for table in picture.quantization.values()} == {(26,) * 64}


def test_photographs_are_measured_as_people_see_them(photographs):
    """SSIMULACRA2: 100 for an exact image; less for one that is further away."""
    image = np.ascontiguousarray(np.tile(photographs[0], (8, 8, 1))[:225, :225])
    noise = np.random.default_rng(0).normal(0.0, 1.0, image.shape)
    scores = [
        ssimulacra2(image, np.clip(image + scale * noise, 0, 255).astype(np.uint8))
        for scale in (0.0, 5.0, 20.0)
    ]
    assert scores[0] == pytest.approx(100.0)
    assert scores[0] > scores[1] + 5.0 > scores[2] + 10.0
    coded = Coded([b"1234"], [2], [image], 0.0, 0.0)
    assert point([image], coded)["SSIMULACRA2"] == pytest.approx(100.0)
    assert "SSIMULACRA2" not in point([photographs[0]], replace(coded, decoded=photographs[:1]))
    smaller = image[1:]  # whose score would be of other weights
    assert "SSIMULACRA2" not in point([smaller], replace(coded, decoded=[smaller]))


def test_curves_and_contact_sheet_are_pictures(run):
    for path in (run.curves, run.sheet):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            spread = np.asarray(picture.convert("L")).std()
        assert spread > 10.0, path.name


def test_every_peer_is_measured_or_named_as_left_out(run):
    names = {peer.name for peer in lossy_peers(40)}
    assert set(run.result["peers"]) | set(run.result["left_out"]) == names
    assert not set(run.result["peers"]) & set(run.result["left_out"])


def test_a_peer_without_its_package_is_left_out_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # what Python does for "not there"
    here, left_out = available_peers(lossy_peers(32))
    assert [(peer.name, "pillow_jxl" in peer.reason) for peer in left_out] == [("JPEG XL", True)]
    assert {peer.name for peer in here} == {"JPEG", "WebP", "AVIF", "JPEG 2000"}


def test_binary_peers_are_lossless_and_ours_is_compared_with_them(photographs):
    picture = np.where(photographs[0][:28, :28, 1:2] > 100, 255, 0).astype(np.uint8)
    for peer in available_peers(binary_peers())[0]:
        np.testing.assert_array_equal(peer.decode(peer.encode(picture, None), 1), picture)
    result = measure(Material("one image", [picture], "mnist"), efforts=(0,))
    assert "JBIG2" in result["left_out"]
    assert all(rows[0]["differing_samples"] == 0.0 for rows in result["peers"].values())
    codec = hvae_codec.load("mnist", 2)
    decoded = hvae_codec.decode(codec.encode(picture))
    assert result["ours"]["0"][1]["block_file_bytes"] == len(codec.encode_block(picture[None]))
    share = float((decoded != picture).mean())
    assert result["ours"]["0"][1]["differing_samples"] == pytest.approx(share, abs=1e-6)
    assert result["targets"]


def test_grey_photographs_go_as_colour(tmp_path, photographs):
    Image.fromarray(photographs[0]).convert("L").save(tmp_path / "grey.png")
    (picture,) = load_material(str(tmp_path), None).pictures
    assert picture.shape == (40, 48, 3)
    assert (picture[:, :, 0] == picture[:, :, 2]).all()


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(DatasetError, match="nowhere"):
        load_material(str(tmp_path / "nowhere"), None)

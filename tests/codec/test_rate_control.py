"""Sizes, qualities and budgets asked for: met, or refused with the nearest that can be had."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hvae_codec
from hvae_codec.codec import registry
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.rate_control.budget import spread
from hvae_codec.codec.tiled.quality_interpolation import TRADES, operating_point
from hvae_codec.codec.tiled.rate_search import COARSE_TRADES
from hvae_codec.errors import CheckpointError, RateError, UnknownModelError, UnknownQualityError
from hvae_codec.evaluation import psnr_db, psnr_each_db
from hvae_codec.evaluation.calibrate import calibrate_codec
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in (40, 200, 300, 360) for x in (30, 200, 400, 560)]
)
IMAGE = CROPS[4]
FEW = CROPS[[0, 2, 4, 7, 9, 14]]


@pytest.fixture(scope="module")
def family():
    return registry.family("cifar10")


@pytest.fixture(scope="module")
def pair(family):
    return family[-2:]


def between(low, high):
    """Three values well inside a range."""
    return [low + share * (high - low) for share in (0.25, 0.5, 0.75)]


def test_target_bytes_is_met_and_more_bytes_are_a_better_picture(pair):
    psnr = []
    ends = [len(pair[0].encode(IMAGE, effort=1, trade=trade)) for trade in (4.0, 0.25)]
    for target in map(round, between(*ends)):
        blob = hvae_codec.encode(IMAGE, target_bytes=target)
        assert abs(len(blob) - target) <= max(2, 0.02 * target)
        psnr.append(psnr_db(IMAGE, hvae_codec.decode(blob)))
    assert psnr == sorted(psnr)


def test_target_psnr_is_met_with_the_smallest_file(family, pair):
    ends = [pair[0].encode(IMAGE, effort=1, trade=trade) for trade in (4.0, 0.25)]
    sizes = []
    targets = between(*(psnr_db(IMAGE, hvae_codec.decode(blob)) for blob in ends))
    for target in targets:
        blob = hvae_codec.encode(IMAGE, target_psnr=target)
        reached = psnr_db(IMAGE, hvae_codec.decode(blob))
        assert target <= reached < target + 0.5
        sizes.append(len(blob))
    assert sizes == sorted(sizes)
    plain = [codec.encode(IMAGE) for codec in family]
    good = [len(blob) for blob in plain if psnr_db(IMAGE, hvae_codec.decode(blob)) >= targets[1]]
    assert sizes[1] <= min(good, default=10**6)


@pytest.mark.parametrize("limit", [50, 61, 85, 100_000])
def test_max_bytes_always_holds(family, limit):
    for image in (IMAGE, CROPS[0], CHINA[300:340, 200:250]):
        tried = [image] * len(COARSE_TRADES)
        smallest = min(map(len, family[0].encode_batch(tried, effort=1, trade=COARSE_TRADES)))
        if smallest <= limit:
            assert len(hvae_codec.encode(image, family[:1], max_bytes=limit)) <= limit
        else:
            with pytest.raises(RateError, match=f"at most {limit} bytes; the nearest has"):
                hvae_codec.encode(image, family[:1], max_bytes=limit)


def test_a_limit_and_a_psnr_hold_together(family):
    known = family[0].encode(IMAGE, effort=1, trade=1.0)
    psnr = psnr_db(IMAGE, hvae_codec.decode(known))
    both = hvae_codec.encode(IMAGE, target_psnr=psnr - 0.05, max_bytes=len(known) + 2)
    assert len(both) <= len(known) + 2
    assert psnr_db(IMAGE, hvae_codec.decode(both)) >= psnr - 0.05


def test_what_cannot_be_reached_is_refused_with_the_nearest(pair):
    with pytest.raises(RateError, match="no file of at most 12 bytes") as small:
        hvae_codec.encode(IMAGE, pair, max_bytes=12)
    fits = hvae_codec.encode(IMAGE, pair, max_bytes=int(small.value.nearest))
    assert len(fits) == small.value.nearest
    with pytest.raises(RateError, match=r"reaches 90\.00 dB; the best has") as good:
        hvae_codec.encode(IMAGE, pair, target_psnr=90.0)
    assert psnr_db(IMAGE, hvae_codec.decode(hvae_codec.encode(IMAGE, pair, max_bytes=10**6))) == (
        pytest.approx(good.value.nearest, abs=0.01)  # a grey level here or there: other batch sizes
    )
    with pytest.raises(RateError, match="98000 to 102000 bytes") as large:
        hvae_codec.encode(IMAGE, pair, target_bytes=100_000)
    assert 12 < large.value.nearest < 1000
    with pytest.raises(RateError, match=f"within {len(fits)} bytes"):
        hvae_codec.encode(IMAGE, pair, target_psnr=90.0, max_bytes=len(fits))
    with pytest.raises(RateError, match="excludes"):
        hvae_codec.encode(IMAGE, pair, target_bytes=80, max_bytes=40)


def test_a_quality_instead_of_a_target():
    assert hvae_codec.encode(IMAGE) == hvae_codec.load("cifar10").encode(IMAGE)
    for quality, effort in [(2, None), (2, 1), (2.5, None)]:
        loaded = hvae_codec.load("cifar10", quality, effort=effort)
        assert hvae_codec.encode(IMAGE, quality=quality, effort=effort) == loaded.encode(IMAGE)
    large = np.resize(IMAGE, (80, 90, 3))
    assert hvae_codec.encode(large, quality=30) == hvae_codec.load("photo", 30).encode(large)
    with pytest.raises(UnknownQualityError):
        hvae_codec.encode(IMAGE, "cifar10", quality=99)
    with pytest.raises(UnknownModelError, match="cifar11"):
        hvae_codec.encode(IMAGE, "cifar11")


def test_codecs_and_models_are_short_to_read():
    codec = hvae_codec.load("cifar10", quality=2)
    assert repr(codec) == f"<Codec 'cifar10', quality 2, model {codec.info.model_id}>"
    assert ", quality 30, " in repr(hvae_codec.load("photo", 30))
    assert ", effort 1, trade 2, " in repr(codec.tuned(1, 2.0))
    assert len(repr(codec.info)) < 400


def test_arguments_that_contradict_each_other():
    for arguments in [
        {"quality": 2, "max_bytes": 60},
        {"quality": 2, "model": hvae_codec.load("cifar10", quality=2)},
        {"target_bytes": 60, "target_psnr": 22.0},
        {"max_bytes": 60, "effort": 0},
        {"max_bytes": 60, "effort": 9},
        {"max_bytes": 60, "model": []},
    ]:
        with pytest.raises(ValueError, match=r"target|effort|codec"):
            hvae_codec.encode(IMAGE, **arguments)
    with pytest.raises(UnknownModelError, match="cifar11"):
        hvae_codec.encode(IMAGE, "cifar11", max_bytes=60)


def test_a_budget_holds_and_spends_itself_where_it_helps(pair):
    limit = max(map(len, pair[0].encode_batch(FEW, effort=1, trade=8.0))) + 10
    equal = [hvae_codec.encode(crop, pair, max_bytes=limit) for crop in FEW]
    budget = sum(map(len, equal))
    blobs = hvae_codec.encode_within(FEW, budget, pair)
    assert 0.97 * budget <= sum(map(len, blobs)) <= budget
    assert squared_error(blobs) < squared_error(equal)
    with pytest.raises(RateError, match="6 images take at least") as refused:
        hvae_codec.encode_within(FEW, 6 * 12, pair)
    least = int(refused.value.nearest)
    assert sum(map(len, hvae_codec.encode_within(FEW, least, pair))) == least
    assert hvae_codec.encode_within([], 0) == []


def squared_error(blobs):
    decoded = np.stack([hvae_codec.decode(blob) for blob in blobs])
    return np.square(decoded.astype(float) - FEW).sum()


@settings(max_examples=150)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, 1000)), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 100),
)
def test_spread_is_within_budget_and_near_the_best_of_all_choices(options, extra):
    sizes = np.array([[size for size, _ in row] for row in options], float)
    errors = np.array([[error for _, error in row] for row in options], float)
    budget = sizes.min(axis=1).sum() + extra
    rows = np.arange(len(sizes))
    chosen = spread(sizes, errors, budget)
    assert sizes[rows, chosen].sum() <= budget
    everything = [np.array(choice) for choice in product(range(3), repeat=len(sizes))]
    fitting = [choice for choice in everything if sizes[rows, choice].sum() <= budget]
    best = min(errors[rows, choice].sum() for choice in fitting)
    # Equal slopes reach every point of the convex hull; the rest of the way, no picture's own gap
    # between neighbours on the hull is exceeded.
    assert errors[rows, chosen].sum() <= best + (errors.max(axis=1) - errors.min(axis=1)).max()


def calibrated(info, quality, sizes, psnr):
    calibration = {"trade": [0.5, 1.0, 2.0], "payload_bytes": sizes, "psnr_db": psnr}
    return replace(info, quality=quality, card={**info.card, "calibration": calibration})


def test_operating_point_of_curves_worked_out_by_hand(family):
    info = family[0].info
    rungs = [
        calibrated(info, 1, [60.0, 50.0, 40.0], [24.0, 22.0, 20.0]),
        calibrated(info, 2, [110.0, 100.0, 58.0], [28.0, 26.0, 23.0]),
    ]
    assert operating_point(rungs, 1.0) == (rungs[0], 1.0)
    assert operating_point(rungs, 2.0) == (rungs[1], 1.0)
    # 23 dB: rung 1 half-way (in log2) between trades 1 and 0.5, 55 bytes; rung 2 would take 58.
    found, trade = operating_point(rungs, 1.25)
    assert found is rungs[0]
    assert trade == pytest.approx(2.0**-0.5)
    # 24 dB: rung 1 takes 60 bytes at trade 0.5; rung 2, a third of the way from 23 to 26 dB, 72.
    assert operating_point(rungs, 1.5) == (rungs[0], 0.5)
    # 25 dB: beyond rung 1; rung 2 two thirds of the way from trade 2 to 1.
    found, trade = operating_point(rungs, 1.75)
    assert found is rungs[1]
    assert trade == pytest.approx(2.0 ** (1 / 3))
    for quality in (0.5, 2.5, float("nan")):
        with pytest.raises(UnknownQualityError, match="qualities 1 to 2"):
            operating_point(rungs, quality)
    # A point that another beats in bytes and PSNR is none: 23 dB as above, whatever trade 4 gave.
    beaten = calibrated(info, 1, [60.0, 50.0, 40.0], [24.0, 22.0, 20.0])
    calibration = beaten.card["calibration"]
    for name, value in (("trade", 4.0), ("payload_bytes", 58.0), ("psnr_db", 19.0)):
        calibration[name].append(value)
    assert operating_point([beaten, rungs[1]], 1.25) == (beaten, pytest.approx(2.0**-0.5))
    bare = replace(info, card={})
    with pytest.raises(UnknownQualityError, match="no calibration"):
        operating_point([bare, rungs[1]], 1.5)
    broken = calibrated(info, 1, [60.0, 50.0], [24.0, 22.0, 20.0])
    with pytest.raises(CheckpointError, match="not one"):
        operating_point([broken, rungs[1]], 1.5)


@pytest.fixture(scope="module")
def calibrated_levels(pair, tmp_path_factory):
    """A folder of the last two levels, calibrated on crops of a photograph, and these crops."""
    folder = tmp_path_factory.mktemp("calibrated")
    shipped = Path(hvae_codec.codec.__file__).parents[1] / "checkpoints"
    crops = np.stack([CHINA[y : y + 32, x : x + 32] for y in range(0, 384, 64) for x in (9, 300)])
    for codec in pair:
        name = f"cifar10-q{codec.info.quality}"
        shutil.copy(shipped / f"{name}.safetensors", folder)
        card = {**codec.info.card, "calibration": calibrate_codec(codec, crops)}
        (folder / f"{name}.json").write_text(json.dumps(card))
    return folder, crops


@pytest.fixture
def calibration_crops(calibrated_levels, monkeypatch):
    """The crops; what `hvae_codec.load` finds is these two levels."""
    folder, crops = calibrated_levels
    monkeypatch.setenv(registry.MODELS_VARIABLE, str(folder))
    return crops


def test_quality_is_one_rising_curve_over_the_rungs(calibration_crops):
    low, high = (info.quality for info in hvae_codec.models())
    sizes, psnr = [], []
    for quality in np.linspace(low, high, 5):
        codec = hvae_codec.load("cifar10", quality=float(quality), effort=1)
        assert codec.point.effort == 1
        blobs = codec.encode_batch(calibration_crops)
        sizes.append(sum(map(len, blobs)))
        psnr.append(psnr_each_db(calibration_crops, codec.decode_batch(blobs)).mean())
    # The calibration knows means of whole bytes; where two rungs meet it may be off by as much.
    assert all(high >= 0.99 * low for low, high in pairwise(sizes))
    assert psnr == sorted(psnr)
    with pytest.raises(UnknownQualityError, match="qualities"):
        hvae_codec.load("cifar10", quality=high + 0.5)


def test_calibration_is_what_the_files_are(calibration_crops):
    info = hvae_codec.models()[0]
    calibration = info.card["calibration"]
    assert calibration["trade"] == list(TRADES)
    at = TRADES.index(2.0)
    codec = hvae_codec.load("cifar10", info.quality)
    blobs = codec.encode_batch(calibration_crops, effort=calibration["effort"], trade=2.0)
    psnr = psnr_each_db(calibration_crops, codec.decode_batch(blobs)).mean()
    assert calibration["psnr_db"][at] == pytest.approx(psnr, abs=1e-3)
    header = parse(blobs[0]).payload_at
    size = np.mean([len(blob) - header for blob in blobs])
    assert calibration["payload_bytes"][at] == pytest.approx(size, abs=0.1)

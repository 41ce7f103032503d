"""Specs of maps: JSON there and back, sizes of latents, what is refused."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec.errors import SpecError
from hvae_codec.models import get_spec
from hvae_codec.models.build import build_model, spec_from_json
from hvae_codec.models.fully_convolutional.spec import MAX_WIDTH, ConvLatent, ConvSpec, Resolution
from hvae_codec.models.zoo import any_spec

MAPS6 = any_spec("maps6-128x128x3")
COUNTS = st.integers(1, MAX_WIDTH)


@st.composite
def specs(draw):
    """Any spec that may be."""
    levels = draw(st.integers(2, 5))
    strides = [4 << level for level in range(levels)]
    resolutions = tuple(Resolution(s, draw(COUNTS), draw(COUNTS), draw(COUNTS)) for s in strides)
    lower = draw(st.lists(st.sampled_from(strides[1:]), min_size=1, max_size=6))
    latents = [strides[-1], *sorted(lower, reverse=True)]
    sides = st.integers(1, 4).map(lambda times: times * strides[-1])
    return ConvSpec(
        name=draw(st.text(min_size=1)),
        image_shape=(3, draw(sides), draw(sides)),
        resolutions=resolutions,
        latents=tuple(ConvLatent(stride, draw(COUNTS)) for stride in latents),
        knots=draw(st.integers(2, 9)),
        deviations=draw(st.tuples(*[st.floats(1e-3, 1.0)] * 2)),
    )


@given(specs())
def test_json_round_trip(spec):
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec


def flattened(data, path=()):
    """Paths of all fields in a JSON document."""
    if not isinstance(data, dict | list):
        return [path]
    items = data.items() if isinstance(data, dict) else enumerate(data)
    return [found for key, value in items for found in [path, *flattened(value, (*path, key))]]


@given(
    st.sampled_from(sorted(set(flattened(MAPS6.to_json())) - {(), ("kind",), ("name",)}, key=str)),
    st.sampled_from([None, "x", [], {}, -1, 0, 1 << 20, float("nan"), float("inf"), {"stride": 4}]),
)
def test_a_damaged_field_is_refused_or_still_a_spec(path, value):
    data = MAPS6.to_json()
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        spec = spec_from_json(data)
    except SpecError:
        return
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize("field", ["image_shape", "resolutions", "latents", "knots", "deviations"])
def test_json_without_a_field_is_refused(field):
    data = MAPS6.to_json()
    del data[field]
    with pytest.raises(SpecError, match="not a model specification"):
        ConvSpec.from_json(data)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_latents_cover_every_pixel_and_less_than_a_coarsest_position_more(height, width):
    for index, latent in enumerate(MAPS6.latents):
        channels, rows, columns = MAPS6.shape_of(index, height, width)
        assert channels == latent.channels
        for positions, side in ((rows, height), (columns, width)):
            assert side <= positions * latent.stride < side + MAPS6.coarsest
            assert positions * latent.stride % MAPS6.coarsest == 0


def test_dimensions_of_the_photographs_spec():
    # 128 / 32 = 4, 128 / 16 = 8, 128 / 8 = 16 positions a side.
    assert MAPS6.dims == (24 * 16, 24 * 64, 40 * 64, 8 * 256, 16 * 256, 24 * 256)
    assert [MAPS6.layer_name(index) for index in (0, 5)] == ["z6", "z1"]


def latents(*strides):
    return tuple(ConvLatent(stride, 4) for stride in strides)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": latents(32)}, "2 or more"),
        ({"latents": latents(32, 8, 16)}, "must not grow"),
        ({"latents": latents(16, 8)}, "the top latent has the coarsest stride, 32"),
        ({"latents": latents(32, 4)}, "none has 4"),
        ({"latents": latents(32, 12)}, r"\[32, 12\], not of \[4, 8, 16, 32\]"),
        ({"latents": (ConvLatent(32, 0), ConvLatent(8, 4))}, r"lie in 1\.\.1024"),
        ({"resolutions": MAPS6.resolutions[1:]}, r"strides \[8, 16, 32\]"),
        ({"resolutions": ()}, r"strides \[\]"),
        ({"knots": 1}, r"lie in 1\.\.1024"),
        ({"deviations": (0.1, 0.0)}, "must be above 0"),
        ({"image_shape": (1, 128, 128)}, "3 channels"),
        ({"image_shape": (3, 128, 120)}, "multiples of 32"),
        ({"image_shape": (3, 0, 128)}, "multiples of 32"),
    ],
)
def test_contradicting_specs_are_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(MAPS6, **changes)


def test_each_kind_is_asked_for_by_its_name():
    assert get_spec("lvae-32x32x3").name == "lvae-32x32x3"
    with pytest.raises(SpecError, match=r"architecture of maps; .*ghvae-32x32x3"):
        get_spec("maps6-32x32x3")
    with pytest.raises(SpecError, match="uniform posteriors only, not 'gaussian'"):
        build_model(MAPS6, "gaussian")

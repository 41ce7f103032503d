"""Warnings of what a server did not take of an image: those of the local call, at the caller."""

import warnings

import grpc
import numpy as np
import pytest
from PIL import Image, ImageCms

import hvae_codec
from hvae_codec import grpc_error_info
from hvae_codec.cli import main
from hvae_codec.codec.images.load import as_uint8
from hvae_codec.errors import ColourWarning, InputWarning, SkippedFilesWarning
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc

MODEL = {"model": "cifar10", "quality": 3}
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
DAMAGED = "damaged ICC profile: its samples are taken as sRGB"
OTHER = "ICC profile of another colour space than RGB or grey: its samples are taken as sRGB"


@pytest.fixture
def folder(tmp_path):
    """a.png: plain; b.png: a damaged profile; c.png: one of Lab. In another folder than results."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = Image.fromarray(np.full((32, 32, 3), (200, 100, 50), np.uint8))
    for name, profile in (("a", None), ("b", b"no profile" * 20), ("c", LAB)):
        image.save(folder / f"{name}.png", icc_profile=profile)
    return folder


@pytest.fixture
def paths(folder):
    return sorted(folder.iterdir())


def told(call):
    """What a call warns of, as (class, text)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    ours = [each for each in caught if issubclass(each.category, InputWarning)]
    return [(each.category, str(each.message)) for each in ours]


@pytest.mark.parametrize("method", ["encode", "encode_stream", "features", "features_stream"])
@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_calls_of_many_images_name_the_image(ask, real, paths, method, on_error):
    field = "images" if method.startswith("encode") else "sources"
    expected = [(ColourWarning, f"{field}[1]: {DAMAGED}"), (ColourWarning, f"{field}[2]: {OTHER}")]
    assert told(lambda: ask(real, method, paths, **MODEL, on_error=on_error)) == expected
    # As bytes, too, and over several messages of a stream.
    files = [path.read_bytes() for path in paths]
    assert told(lambda: ask(real, method, files * 2, **MODEL))[:2] == expected
    assert told(lambda: ask(real, method, files * 2, **MODEL))[2][1] == f"{field}[4]: {DAMAGED}"


def test_the_class_and_the_reason_are_those_of_the_local_call(ask, real, paths):
    local = told(lambda: as_uint8(paths[1]))
    assert local == [(ColourWarning, f"{paths[1]}: {DAMAGED}")]
    assert told(lambda: ask(real, "encode", paths[1:2], **MODEL)) == [
        (ColourWarning, f"images[0]: {DAMAGED}")
    ]


def test_samples_and_evaluations_warn(ask, real, paths):
    a, b, c = paths
    assert told(lambda: ask(real, "evaluate", b, **MODEL)) == [(ColourWarning, f"image: {DAMAGED}")]
    assert told(lambda: ask(real, "evaluate", a, **MODEL)) == []
    assert told(lambda: ask(real, "sample", 2, given=b, **MODEL)) == [
        (ColourWarning, f"given.source: {DAMAGED}")
    ]
    assert told(lambda: ask(real, "sample", 2, between=(b, c), **MODEL)) == [
        (ColourWarning, f"given.between.first: {DAMAGED}"),
        (ColourWarning, f"given.between.last: {OTHER}"),
    ]


def test_an_image_that_fails_later_warns_too(ask, real, paths):
    found = []

    def call():
        found.extend(
            ask(real, "encode", paths, model="cifar10", target_psnr=90.0, on_error="return")
        )

    assert [text for _, text in told(call)] == [f"images[1]: {DAMAGED}", f"images[2]: {OTHER}"]
    assert all(isinstance(each, hvae_codec.errors.RateError) for each in found)


def test_warnings_that_are_errors_end_the_call(ask, real, paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ColourWarning)
        with pytest.raises(ColourWarning, match=r"images\[1\]: damaged ICC profile"):
            ask(real, "encode", paths, **MODEL)
        assert len(ask(real, "encode", paths[:1], **MODEL)) == 1


@pytest.mark.parametrize("command", ["encode", "features"])
def test_commands_print_what_local_ones_print(capsys, real, folder, tmp_path, command):
    def lines(target, *more):
        output = tmp_path / target if command == "encode" else tmp_path / f"{target}.npz"
        words = [command, str(folder), "--output", str(output), "--model", "cifar10"]
        assert main([*words, *more]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "warning" in line]

    local = lines("local")
    assert local == [
        f"hvae-codec: warning: {folder / 'b.png'}: {DAMAGED}",
        f"hvae-codec: warning: {folder / 'c.png'}: {OTHER}",
    ]
    assert lines("remote", "--server", real) == local


def test_the_message_holds_text_and_class(real, paths):
    image = codec_pb2.Image(file=paths[1].read_bytes())
    request = codec_pb2.EncodeRequest(model=codec_pb2.ModelSelector(name="cifar10"), images=[image])
    with grpc.insecure_channel(real) as channel:
        answer = codec_pb2_grpc.CodecServiceStub(channel).Encode(request, timeout=60)
    (warning,) = answer.results[0].warnings
    assert (warning.message, warning.reason) == (DAMAGED, "COLOUR")


def test_classes_of_reasons():
    assert grpc_error_info.reason_of(SkippedFilesWarning) == "SKIPPED_FILES"
    assert grpc_error_info.warning_of_reason("SKIPPED_FILES") is SkippedFilesWarning
    assert grpc_error_info.warning_of_reason("COLOUR") is ColourWarning
    assert grpc_error_info.warning_of_reason("OF_LATER") is InputWarning

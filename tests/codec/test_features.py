"""Features of every layer, of either family: as many rows as files, and which files will do."""

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import CorruptError
from tests.codec.fully_convolutional.models import EVEN, TINY, waves

pytestmark = pytest.mark.usefixtures("one_thread")

DIMS = {
    "cifar10": [32, 512],
    "tiny": [latent.channels for latent in TINY.latents],
    "integers": [latent.channels for latent in EVEN.latents],
}
IMAGES = [waves(32, 32, seed=n) for n in range(9)]


def test_archives_give_the_rows_of_their_files(codec, tiny_at_hand, tmp_path):
    path = tmp_path / "images.hvaa"
    with hvae_codec.ArchiveWriter(path, codec, block_tiles=4) as writer:
        for number, image in enumerate(IMAGES):
            writer.add(image, name=f"{number}.png")
    files = codec.layer_features_from_bytes(codec.encode_batch(IMAGES))
    with hvae_codec.Archive(path, codec) as archive:
        assert archive.path == path
        everything = archive.layer_features()
        archive[5]  # a block that was read whole gives no more layers than are asked for
        (top,) = archive.layer_features([5], 1)
        some = archive.layer_features([7, 1, 7])
        none = archive.layer_features([])
    assert [layer.mean.shape for layer in none] == [(0, d) for d in DIMS[codec.info.name]]
    for layer, whole, picked in zip(files, everything, some, strict=True):
        np.testing.assert_allclose(whole.mean, layer.mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(picked.mean, layer.mean[[7, 1, 7]], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(picked.std, layer.std[[7, 1, 7]], rtol=1e-5)
    np.testing.assert_array_equal(top.mean, files[0].mean[[5]])


def test_layers_below_the_top_need_whole_files(codec):
    blob = codec.encode(IMAGES[0])
    damaged = blob[:-1] + bytes([blob[-1] ^ 1])
    assert codec.layer_features_from_bytes(damaged, 1)[0].mean.shape == (1, codec.info.z_dims[0])
    with pytest.raises(CorruptError):
        codec.layer_features_from_bytes(damaged, 2)


def test_no_images_and_no_such_layers(codec):
    dims = DIMS[codec.info.name]
    assert codec.features([]).mean.shape == (0, dims[0])
    assert codec.features_from_bytes([]).std.shape == (0, dims[0])
    for found in (codec.layer_features([]), codec.layer_features_from_bytes([])):
        assert [layer.mean.shape for layer in found] == [(0, d) for d in dims]
        assert [layer.std.shape for layer in found] == [(0, d) for d in dims]
    blob = codec.encode(IMAGES[0])
    for layers in (0, len(dims) + 1):
        for call in (
            lambda layers: codec.layer_features(IMAGES, layers),
            lambda layers: codec.layer_features_from_bytes(blob, layers),
            lambda layers: codec.file_coder.read_block(blob, layers),
        ):
            with pytest.raises(ValueError, match=rf"1\.\.{len(dims)}"):
                call(layers)

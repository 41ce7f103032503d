"""Files of a tiny fully convolutional model: in archives, in Pillow, by the models at hand."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec
import hvae_codec.pillow_plugin
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.registry import codec_of
from hvae_codec.errors import ImageTooLargeError, UnknownQualityError
from tests.codec.fully_convolutional.models import assert_within_a_level, waves

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_archive_decodes_few_large_pictures_at_once(tiny, tmp_path):
    """Each of these has 48 tiles of the model's size: 288 pass the 256 that go together."""
    path = tmp_path / "pictures.hvaa"
    with hvae_codec.ArchiveWriter(path, tiny, block_tiles=96) as archive:
        archive.extend(waves(192, 256, seed=n) for n in range(14))
    together = []

    class Counting(Codec):
        def images_of(self, batches):
            together.append(sum(map(len, batches)))
            return super().images_of(batches)

    with hvae_codec.Archive(path, Counting(tiny.checkpoint)) as archive:
        assert len(list(archive)) == 14
    assert together == [6, 6, 2]


def test_pillow_opens_and_saves(tiny, tiny_at_hand, tmp_path):
    picture = waves(45, 70)
    Image.fromarray(picture).save(tmp_path / "x.hvae", model="tiny", quality=33.3)
    blob = (tmp_path / "x.hvae").read_bytes()
    assert blob == tiny.at_quality(33.3).encode(picture)
    with Image.open(tmp_path / "x.hvae") as image:
        assert (image.mode, image.size) == ("RGB", (70, 45))
        assert_within_a_level(np.asarray(image), hvae_codec.decode(blob))
    frames = [Image.fromarray(waves(45, 70, seed=n)) for n in range(3)]
    frames[0].save(tmp_path / "y.hvae", model="tiny", save_all=True, append_images=frames[1:])
    whole = tiny.decode_block((tmp_path / "y.hvae").read_bytes())
    with Image.open(tmp_path / "y.hvae") as image:
        assert image.n_frames == 3
        image.seek(2)
        assert_within_a_level(np.asarray(image), whole[2])


def test_the_registry_knows_qualities(tiny, tiny_at_hand):
    blob = hvae_codec.load("tiny", quality=7).encode(waves(20, 20))
    assert blob == tiny.at_quality(7).encode(waves(20, 20))
    assert hvae_codec.codec_for(blob).info.name == "tiny"
    model_id = bytes.fromhex(hvae_codec.codec_for(blob).info.model_id)
    assert codec_of(model_id, 200).number == 200
    with pytest.raises(UnknownQualityError, match="256"):
        codec_of(model_id, 256)
    assert hvae_codec.load("tiny").quality == tiny.quality
    for quality in (0, 0.99, 100.5, 101, -1, float("nan"), float("inf")):
        with pytest.raises(UnknownQualityError, match=r"1\.\.100"):
            hvae_codec.load("tiny", quality=quality)
        with pytest.raises(UnknownQualityError, match=r"1\.\.100"):
            tiny.at_quality(quality)
    for number in (-1, 256):
        with pytest.raises(UnknownQualityError, match=r"0\.\.255"):
            tiny.at_number(number)


def test_blocks_of_an_archive_hold_no_more_pixels_than_a_file_may(tiny, tmp_path, monkeypatch):
    """However many tiles a block may have."""
    limit = 8 * 32 * 32
    monkeypatch.setattr("hvae_codec.codec.bitstream.container.MAX_FILE_PIXELS", limit)
    monkeypatch.setattr("hvae_codec.codec.bitstream.conv_files.MAX_FILE_PIXELS", limit)
    pictures = [waves(32, 32, seed=n) for n in range(11)]
    with pytest.raises(ImageTooLargeError):
        tiny.encode_block(pictures)
    path = tmp_path / "pictures.hvaa"
    with hvae_codec.ArchiveWriter(path, tiny, block_tiles=1000) as archive:
        archive.extend(pictures)
    with hvae_codec.Archive(path) as archive:
        assert len(archive) == 11
        assert max(map(len, archive.blocks)) <= 8
        assert archive.verify() == []

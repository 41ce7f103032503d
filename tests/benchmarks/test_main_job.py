"""The main job's parts: WebP at equal bytes, the table's line, the contact sheet."""

import io
import re

import numpy as np
from PIL import Image

from benchmarks.docs.demo import real_images, webp_within
from benchmarks.docs.demo_sheet import CELL, HEADING, PART, Row, WebP, contact_sheet
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
CROP = CHINA[100:300, 100:400]


def webp_sizes(picture):
    """Of the files of all qualities."""
    sizes = []
    for quality in range(101):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=6)
        sizes.append(len(buffer.getvalue()))
    return sizes


def row(original, webp=None, name="china"):
    noisy = np.clip(original.astype(int) + 10, 0, 255).astype(np.uint8)
    return Row(name, "photo", original, noisy, noisy, 980, 1000, 12.5, webp)


def test_webp_is_the_best_that_is_not_larger():
    sizes = webp_sizes(CROP[:64, :96])
    for budget in (sizes[0], sizes[30], (sizes[60] + sizes[61]) // 2, sizes[-1] + 9):
        found = webp_within(CROP[:64, :96], budget)
        assert found.file_bytes <= budget
        assert found.file_bytes == [size for size in sizes if size <= budget][-1]
        assert found.decoded.shape == (64, 96, 3)
    assert webp_within(CROP[:64, :96], min(sizes) - 1).file_bytes == sizes[0]  # none is so small


def test_a_line_has_a_word_for_each_word_of_the_heading():
    flat = np.full((40, 50, 3), 100, np.uint8)
    line = row(flat, WebP(flat + np.uint8(20), 990)).line()
    psnr, webp = (10 * np.log10(255**2 / error**2) for error in (10, 20))
    assert line.split() == [
        *("china", "photo", "50x40", "980", "1000", "4.000"),
        *(f"{psnr:.2f}", f"{webp:.2f}", "12.5"),
    ]
    assert row(flat).line().split()[7] == "-"
    ends = [match.end() for match in re.finditer(r"(payload B|file B|dB|ms)(?= |$)", HEADING)]
    assert all(line[end - 1] != " " for end in ends)
    assert len(line) == len(HEADING)


def test_the_sheet_shows_pictures_as_they_are():
    webp = webp_within(CROP, 3000)
    small = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    rows = [row(CROP, webp), *(row(one, name=f"small {n}") for n, one in enumerate(small))]
    sheet = np.asarray(contact_sheet(rows, small[:2]))
    top, left = 16, 8
    shown = CROP[:, :300]
    assert PART == (312, 208)
    for column, pixels in enumerate((shown, rows[0].decoded, webp.decoded, rows[0].preview)):
        at = left + column * 320
        np.testing.assert_array_equal(sheet[top : top + 200, at : at + 300], pixels)
    below = top + 208 + 8 + 16
    enlarged = small[0].repeat(3, axis=0).repeat(3, axis=1)
    assert CELL == 96
    np.testing.assert_array_equal(sheet[below : below + CELL, left : left + CELL], enlarged)
    last = sheet[-8 - CELL : -8, left : left + CELL]
    np.testing.assert_array_equal(last, enlarged)


def test_images_without_data_sets_are_the_photographs(monkeypatch, tmp_path):
    monkeypatch.setenv("HVAE_DATA", str(tmp_path))
    images, note = real_images()
    assert [name for name, _ in images] == ["china", "flower"]
    assert "HVAE_DATA" in note

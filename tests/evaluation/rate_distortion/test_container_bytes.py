"""Payload sizes against files put together by hand, and against files that differ by metadata."""

import io
import struct

import pytest
from PIL import Image

import hvae_codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.evaluation.rate_distortion.container_bytes import KINDS, payload_bytes


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def box(name, content):
    return struct.pack(">I4s", 8 + len(content), name) + content


def chunk(name, content):
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)


def png_chunk(name, content):
    return struct.pack(">I4s", len(content), name) + content + b"crc."


def test_jpeg_counts_all_scans_with_stuffing_and_restarts():
    first, second = b"ab\xff\x00cd\xff\xd0ef", b"ghi\xff\x00"
    tables, scan = segment(0xC4, b"\xff\xd9" * 9), segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    data = b"\xff\xd8" + tables + scan + first + tables + scan + second + b"\xff\xd9"
    assert payload_bytes("JPEG", data) == len(first) + len(second)


def test_webp_counts_the_bitstream_chunk_without_padding():
    chunks = chunk(b"VP8X", bytes(10)) + chunk(b"ICCP", b"x" * 31) + chunk(b"VP8 ", b"y" * 77)
    data = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    assert payload_bytes("WebP", data) == 77
    lossless = b"RIFF" + struct.pack("<I", 17) + b"WEBP" + chunk(b"VP8L", b"z" * 5)
    assert payload_bytes("WebP", lossless) == 5


def test_avif_counts_mdat_whatever_way_its_size_is_written():
    start = box(b"ftyp", b"avif\0\0\0\0") + box(b"meta", b"m" * 200)
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 30) + b"d" * 30
    open_ended = struct.pack(">I4s", 0, b"mdat") + b"e" * 12
    assert payload_bytes("AVIF", start + box(b"mdat", b"d" * 41)) == 41
    assert payload_bytes("AVIF", start + long + open_ended) == 30 + 12


def test_a_box_longer_than_its_file_is_an_error():
    start = box(b"ftyp", b"avif\0\0\0\0")
    with pytest.raises(ValueError, match="mdat"):
        payload_bytes("AVIF", start + struct.pack(">I4s", 100, b"mdat") + b"d" * 3)


def test_jpeg2000_counts_the_packets_of_every_tile_part():
    parts = b""
    for packets in (b"p" * 50, b"q" * 7):
        length = 12 + 2 + len(packets)
        parts += b"\xff\x90" + struct.pack(">HHIBB", 10, 0, length, 0, 1) + b"\xff\x93" + packets
    data = b"\xff\x4f" + segment(0x51, bytes(45)) + segment(0x64, b"comment") + parts + b"\xff\xd9"
    assert payload_bytes("JPEG 2000", data) == 57


def test_jpegxl_counts_the_same_bare_and_in_boxes():
    stream = b"\xff\x0a" + b"c" * 40
    signature = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    halves = box(b"jxlp", b"\0\0\0\0" + stream[:20]) + box(b"jxlp", b"\x80\0\0\x01" + stream[20:])
    assert payload_bytes("JPEG XL", stream) == 40
    assert payload_bytes("JPEG XL", signature + box(b"jxlc", stream)) == 40
    assert payload_bytes("JPEG XL", signature + box(b"Exif", b"e" * 9) + halves) == 40


def test_png_counts_all_its_data_chunks():
    chunks = (
        png_chunk(b"IHDR", bytes(13)) + png_chunk(b"IDAT", b"i" * 20) + png_chunk(b"tEXt", b"t")
    )
    data = b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IDAT", b"j" * 3) + png_chunk(b"IEND", b"")
    assert payload_bytes("PNG", data) == 23


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_counts_its_strips_in_either_byte_order(order):
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    one = struct.pack(order + "H", 1) + struct.pack(order + "HHIHH", 279, 3, 1, 26, 0)
    two = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 279, 4, 2, 22)
    assert payload_bytes("TIFF", start + one) == 26
    assert payload_bytes("TIFF", start + two + struct.pack(order + "II", 1000, 33)) == 1033


def test_ours_is_what_follows_the_header(photographs):
    blob = hvae_codec.load("cifar10", 2).encode(photographs[0])
    assert payload_bytes(".hvae", blob) == len(blob) - parse(blob).payload_at


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_another_file_is_an_error(kind):
    with pytest.raises(ValueError):
        payload_bytes(kind, b"BM" + bytes(60))


@pytest.mark.parametrize(
    ("kind", "save_as", "options"),
    [
        ("JPEG", "JPEG", {"progressive": True}),
        ("WebP", "WEBP", {}),
        ("PNG", "PNG", {}),
    ],
)
def test_metadata_is_no_payload(kind, save_as, options, photographs):
    """Pillow's own files: EXIF makes the file larger by its bytes, the payload not at all."""
    sizes = []
    exif = Image.Exif()
    exif[0x010E] = "d" * 500  # the picture's description
    for extra in ({}, {"exif": exif.tobytes()}):
        buffer = io.BytesIO()
        Image.fromarray(photographs[0]).save(buffer, save_as, **options, **extra)
        sizes.append((len(buffer.getvalue()), payload_bytes(kind, buffer.getvalue())))
    (plain, plain_payload), (described, described_payload) = sizes
    assert described >= plain + 500
    assert 0 < plain_payload == described_payload < plain

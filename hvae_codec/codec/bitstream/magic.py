"""What files of other kinds begin with, so that a refusal can say what was given instead."""

_KINDS = (
    (b"\xf6\x48\x81", "a .hvae file, which 'hvae-codec decode' and hvae_codec.decode read"),
    (b"\xf6\x41\x52\x43", "a .hvaa archive, which 'hvae-codec unpack' and hvae_codec.Archive read"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image, which 'hvae-codec encode' reads"),
    (b"\xff\xd8\xff", "a JPEG image, which 'hvae-codec encode' reads"),
)


def hint_of(start: bytes) -> str:
    """What to add to the message that a file is of another kind; empty where its kind is none."""
    found = (said for magic, said in _KINDS if start.startswith(magic))
    return "".join(f": it is {said}" for said in found)

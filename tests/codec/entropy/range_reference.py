"""The range coder of docs/FORMAT.md, section 3, in big integers: a second implementation."""

PAD_BYTES = 16


def encode(coded):
    """Payload of pairs (frequencies, index): the interval's lower end never loses a digit."""
    low, width, bits, nothing = 0, 2**64 - 1, 64, True
    for frequencies, index in coded:
        unit, nothing = width >> 24, False
        low += unit * 256 * sum(frequencies[:index])
        width = unit * 256 * frequencies[index]
        if width < 2**32:
            low, width, bits = low << 32, width << 32, bits + 32
    if nothing:
        return b""
    for dropped in range(min(PAD_BYTES, bits // 8), -1, -1):
        number = (low + width - 1) >> (8 * dropped)
        if number << (8 * dropped) >= low:
            return number.to_bytes(bits // 8 - dropped, "big")
    raise AssertionError


class Reader:
    """Takes indices out of a payload, one after another."""

    def __init__(self, payload):
        self._payload, self._read = payload, 8
        self._offset = int.from_bytes(payload[:8].ljust(8, b"\0"), "big")
        self._width = 2**64 - 1

    def index(self, frequencies):
        """The next index, in a table of these frequencies."""
        unit = self._width >> 24
        index, below = 0, 0
        while below + 256 * frequencies[index] <= self._offset // unit:
            below += 256 * frequencies[index]
            index += 1
        self._offset -= unit * below
        self._width = unit * 256 * frequencies[index]
        if self._width < 2**32:
            word = int.from_bytes(self._payload[self._read : self._read + 4].ljust(4, b"\0"), "big")
            self._offset, self._width = self._offset << 32 | word, self._width << 32
            self._read += 4
        return index

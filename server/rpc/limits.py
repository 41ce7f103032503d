"""What one call may carry, checked before anything is computed."""

from dataclasses import dataclass

from hvae_codec.codec.images.limits import MAX_PICTURE_PIXELS

from .status import InvalidRequestError, LimitError


@dataclass(frozen=True)
class Limits:
    """Bounds on one call, either way.

    The defaults keep gRPC's own message limit, which photographs of more than 12 megapixels rarely
    fit. The pixel limit bounds memory: once decoded an image takes three bytes a pixel, and the
    networks of `photo` some 80, however few its file has.
    """

    message_bytes: int = 4 * 1024 * 1024
    items: int = 4_096
    pixels: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.message_bytes, self.items, self.pixels) < 1:
            raise ValueError(f"limits must be positive, got {self}")
        if self.pixels > MAX_PICTURE_PIXELS:
            raise ValueError(
                f"at most {MAX_PICTURE_PIXELS:,} pixels in one call, the largest picture of the "
                f"codec; got {self.pixels:,}"
            )

    def check_items(self, field: str, count: int) -> None:
        """Refuse a request with no items in `field`, or too many."""
        if count < 1:
            raise InvalidRequestError(f"{field}: the request has none, at least 1 is needed")
        if count > self.items:
            raise LimitError(
                f"{field}: {count:,} items in one call, this server allows {self.items:,}; "
                "send them in several calls"
            )

    def check_pixels(self, pixels: int) -> None:
        """Refuse a call whose images have too many pixels together."""
        if pixels > self.pixels:
            raise LimitError(
                f"the pictures of this call have {pixels:,} pixels or more, this server allows "
                f"{self.pixels:,} in one call; send fewer at a time"
            )

    def check_response(self, response_bytes: int) -> None:
        """Refuse a call whose answer would not fit into one message."""
        if response_bytes > self.message_bytes:
            raise LimitError(
                f"the answer may take {response_bytes:,} bytes, this server allows "
                f"{self.message_bytes:,} in one message; ask for fewer items in one call"
            )

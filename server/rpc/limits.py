"""What one call may carry, checked before anything is computed."""

from ..errors import InvalidRequestError, LimitError
from ..settings import Limits


def check_items(limits: Limits, field: str, count: int) -> None:
    """Reject a request with no items in `field` (InvalidRequestError), or too many (LimitError)."""
    if count < 1:
        raise InvalidRequestError(f"{field}: the request has none, at least 1 is needed")
    if count > limits.items:
        raise LimitError(
            f"{field}: {count:,} items in one call, this server allows {limits.items:,}; "
            "send them in several calls"
        )


def check_pixels(limits: Limits, pixels: int) -> None:
    """Reject a call whose images have too many pixels together. Raises LimitError."""
    if pixels > limits.pixels:
        raise LimitError(
            f"the pictures of this call have {pixels:,} pixels or more, this server allows "
            f"{limits.pixels:,} in one call; send fewer at a time"
        )


def check_response(limits: Limits, response_bytes: int) -> None:
    """Reject a call whose answer would not fit into one message. Raises LimitError."""
    if response_bytes > limits.message_bytes:
        raise LimitError(
            f"the answer may take {response_bytes:,} bytes, this server allows "
            f"{limits.message_bytes:,} in one message; ask for fewer items in one call"
        )

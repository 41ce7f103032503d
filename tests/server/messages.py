"""Messages that the tests of the server send."""

from hvae_codec.v1 import codec_pb2


def raw_image(picture):
    """A picture uint8 [H, W, C] as its samples."""
    height, width, channels = picture.shape
    content = {"height": height, "width": width, "channels": channels, "data": picture.tobytes()}
    return codec_pb2.Image(raw=codec_pb2.RawImage(**content))

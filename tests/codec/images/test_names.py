"""Names of the package that was one module before."""

import pytest

import hvae_codec.client
from hvae_codec.codec import images
from hvae_codec.codec.images import load


def test_names_of_the_module_are_found_in_the_package():
    assert images.decode_image_bytes is load.decode_image_bytes
    assert hvae_codec.client.messages.Pictures is hvae_codec.client.Pictures
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = images.nothing

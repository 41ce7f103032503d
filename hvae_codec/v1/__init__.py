"""Messages and stubs generated from proto/hvae_codec/v1/codec.proto at build time."""

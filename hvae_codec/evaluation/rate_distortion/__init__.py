"""Rate and distortion of codecs on the same images: classical peers, points, curves, BD-rates."""

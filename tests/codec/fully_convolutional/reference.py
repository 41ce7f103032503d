"""Section 7 of docs/FORMAT.md in loops over plain integers: a second implementation.

A model is a list of layers, the top one first: dicts of stride, channels, and the tensors of the
specification as nested lists. Symbols are dicts from (channel, picture, row, column).
"""

from itertools import product

from tests.codec.entropy import range_reference


def model_of(tensors, latents):
    """Layers from the tensors of a checkpoint, for layers of these (stride, channels)."""
    layers = []
    for number, (stride, channels) in enumerate(latents):
        head = f"tables.{number}."
        own = {k.removeprefix(head): v.tolist() for k, v in tensors.items() if k.startswith(head)}
        layers.append({"stride": stride, "channels": channels, **own})
    return layers


def map_sides(layers, height, width):
    """(rows, columns) of each layer for a picture of a size."""
    coarsest = layers[0]["stride"]
    whole = [(side + coarsest - 1) // coarsest * coarsest for side in (height, width)]
    return [(whole[0] // layer["stride"], whole[1] // layer["stride"]) for layer in layers]


def inputs(layers, symbols, stride):
    """For the stride, functions of (picture, row, column), input after input."""
    features = (
        lambda k: min(abs(k), 1),
        lambda k: min(abs(k), 31),
        lambda k: max(-3, min(k, 3)),
    )
    return [
        lambda n, y, x, k=known, f=feature, c=channel: f(k.get((c, n, y, x), 0))
        for layer, known in zip(layers, symbols, strict=False)
        if layer["stride"] == stride
        for feature in features
        for channel in range(layer["channels"])
    ]


def bias_at(layer, quality, channel):
    knots = layer["bias"]
    p = quality * (len(knots) - 1)
    j = min(p // 255, len(knots) - 2)
    e = p - 255 * j
    return (knots[j][channel] * (255 - e) + knots[j + 1][channel] * e) // 255


def levels(layers, symbols, quality, count, sides):
    """The levels of the layer below those whose symbols are known, a dict like them."""
    layer = layers[len(symbols)]
    above = [key for key in layer if key.startswith("weights.")]
    seen = {key: inputs(layers, symbols, int(key.removeprefix("weights."))) for key in above}
    found = {}
    for c, n, y, x in product(range(layer["channels"]), range(count), *map(range, sides)):
        total = bias_at(layer, quality, c)
        for key in above:
            r = int(key.removeprefix("weights.")) // layer["stride"]
            weights = layer[key][(c * r + y % r) * r + x % r]
            size = 3 if r <= 2 else 1
            for feature, window in zip(seen[key], weights, strict=True):
                for u, v in product(range(size), repeat=2):
                    if window[u][v]:
                        at = (y // r + u - size // 2, x // r + v - size // 2)
                        total += window[u][v] * feature(n, *at)
        found[c, n, y, x] = sum(threshold <= total for threshold in layer["thresholds"])
    return found


def tables_of(layer):
    """(low, frequencies) of each level."""
    made, at = [], 0
    for low, size in zip(layer["low"], layer["size"], strict=True):
        made.append((low, layer["frequency"][at : at + size]))
        at += size
    return made


def coding_order(layer, own_levels):
    """Positions that are coded, in order; dicts keep the order of `product`."""
    tables = tables_of(layer)
    order = sorted(range(len(tables)), key=lambda level: (len(tables[level][1]), level))
    for level in order:
        if len(tables[level][1]) > 1:
            yield from (at for at, its in own_levels.items() if its == level)


def encode(layers, symbols, quality, count, sides):
    """The payload of symbols, a dict a layer."""

    def coded():
        for number, layer in enumerate(layers):
            own = levels(layers, symbols[:number], quality, count, sides[number])
            tables = tables_of(layer)
            for at in coding_order(layer, own):
                low, frequencies = tables[own[at]]
                yield frequencies, symbols[number][at] - low

    return range_reference.encode(coded())


def decode(layers, payload, quality, count, sides):
    """The symbols of all layers of which `sides` gives (rows, columns)."""
    reader = range_reference.Reader(payload)
    symbols = []
    for layer, own_sides in zip(layers, sides, strict=False):
        own = levels(layers, symbols, quality, count, own_sides)
        tables = tables_of(layer)
        found = {at: tables[level][0] for at, level in own.items()}
        for at in coding_order(layer, own):
            found[at] += reader.index(tables[own[at]][1])
        symbols.append(found)
    return symbols

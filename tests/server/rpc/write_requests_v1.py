"""Writes the golden requests of the contract as it was before streams and statuses of items.

    python tests/server/rpc/write_requests_v1.py

One request of each call that there was, serialised by the code that was generated then, and the
contract of then as a descriptor set, by which the test reads the answers as its clients did. Never
to be written anew: clients built from that contract are still out there.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = Path(__file__).parents[3]
COMMIT = "334ad5d"
FILE = "hvae_codec/v1/codec.proto"
TARGET = Path(__file__).with_name("requests_v1.json")
GOLDEN = ROOT / "tests" / "golden" / "cifar10-q3-61a0e1a1-tile.hvae"


def old_contract():
    """The descriptor set of the contract of COMMIT."""
    old = ["git", "show", f"{COMMIT}:proto/{FILE}"]
    text = subprocess.run(old, cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        path.parent.mkdir(parents=True)
        path.write_bytes(text)
        out = Path(folder, "set")
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", folder]
        subprocess.run([*protoc, f"--descriptor_set_out={out}", FILE], cwd=folder, check=True)
        return out.read_bytes()


def messages(descriptors):
    """A function from the name of a message of that contract to its class."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"hvae_codec.v1.{name}")
    )


def picture():
    """The picture in the requests, uint8 [32, 32, 3]."""
    y, x = np.mgrid[0:32, 0:32]
    return np.stack([4 * x + y, 255 - 3 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


def requests(message):
    """One request of each call."""
    model = message("ModelSelector")(name="cifar10", quality=3)
    raw = message("RawImage")(height=32, width=32, channels=3, data=picture().tobytes())
    image = message("Image")(raw=raw)
    source = message("FeatureSource")
    sources = [source(image=image), source(encoded=GOLDEN.read_bytes())]
    return {
        "Encode": message("EncodeRequest")(model=model, images=[image]),
        "Decode": message("DecodeRequest")(encoded=[GOLDEN.read_bytes()], format=2),
        "ExtractFeatures": message("ExtractFeaturesRequest")(model=model, sources=sources),
        "Sample": message("SampleRequest")(model=model, count=2, seed=7, temperature=0.5, format=1),
        "ListModels": message("ListModelsRequest")(),
    }


if __name__ == "__main__":
    contract = old_contract()
    found = requests(messages(contract))
    content = {
        "contract": base64.b64encode(contract).decode(),
        "requests": {name: request.SerializeToString().hex() for name, request in found.items()},
    }
    with TARGET.open("x") as target:
        target.write(json.dumps(content, indent=1) + "\n")

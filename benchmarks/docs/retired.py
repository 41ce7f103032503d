"""Tables of questions that were answered once: rows were kept, the scripts that measured them were
not. docs/BENCHMARKS.md names the commit that holds each script.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.tables import RESULTS, Result, Row, Table, Text, stored

NEAR_DB = 0.75
"""PSNR of a setting of WebP that stands beside a quality level."""


def beside_webp(result: Result) -> Iterable[Row]:
    """Each quality level with the setting of WebP that comes nearest to its PSNR."""
    for row in result["ladder"]:
        webp = min(result["webp"], key=lambda peer: abs(peer["psnr_db"] - row["psnr_db"]))
        near = abs(webp["psnr_db"] - row["psnr_db"]) <= NEAR_DB
        peer = f"{webp['file_bytes']:.1f} at {webp['psnr_db']:.2f}" if near else "none near it"
        yield row | {"webp": peer}


LADDER = Table(
    "ladder",
    beside_webp,
    {
        "quality": "{quality}",
        "payload B": "{payload_bytes:.1f}",
        "file B": "{file_bytes:.1f}",
        "B in a block of 256": "{block_file_bytes:.1f}",
        "PSNR dB": "{psnr_db:.2f}",
        "WebP file B at PSNR dB": "{webp}",
    },
    note="{data}, {images} images, means over images.",
)


def efforts(result: Result) -> list[Row]:
    """What the encoder's search saves at equal PSNR, and how fast it is."""
    return [
        {"effort": effort, "saved": result["saving_over_ladder"].get(effort, 0.0), "rate": rate}
        for effort, rate in result["images_per_second"]["3"].items()
    ]


EFFORTS = Table(
    "efforts",
    efforts,
    {
        "effort": "{effort}",
        "bytes saved": "{saved:.1%}",
        "images/s of one thread, quality 3": "{rate:,.0f}",
    },
    note="{data}, {images} images.",
    result="encoder_effort",
)


def seams_note(result: Result) -> str:
    """What was measured, and from which quality level on seams cannot be seen."""
    good = [row["quality"] for row in result["rungs"] if row["invisible"]]
    held = f"from quality {min(good)} on" if good else "of no quality"
    return (
        f"{result['data'].capitalize()}, {result['photographs']} photographs. It is within "
        f"{result['invisible_within']:.0%} of the originals' own {held}; below, seams can be seen."
    )


SEAMS = Table(
    "seams",
    "rungs",
    {
        "quality": "{quality}",
        "bits/pixel": "{bits_per_pixel:.3f}",
        "original": "{ratio_original:.2f}",
        "no softening": "{ratio_hard:.2f}",
        "softened": "{ratio_soft:.2f}",
        "PSNR dB": "{psnr_soft_db:.2f}",
        "gained dB": lambda row: f"{row['psnr_soft_db'] - row['psnr_hard_db']:.2f}",
    },
    note=seams_note,
)
RUNS = ("rates_on_request_cifar10", "rates_on_request_mnist")


def target_rates(_: Result) -> Iterable[Row]:
    """Target rates, and the rates on the test images, of two results."""
    for run in map(stored, RUNS):
        for row in run["rows"]:
            pairs = zip(row["test_nats"], row["off"], strict=True)
            yield row | {
                "data": run["data"],
                "asked": ", ".join(f"{rate:.4g}" for rate in row["target_nats"]),
                "found": ", ".join(f"{rate:.4g} ({off:+.1%})" for rate, off in pairs),
            }


def lengths(_: Result) -> str:
    """How long the two runs trained."""
    found = " and ".join(f"{run['epochs']} epochs of {run['data']}" for run in map(stored, RUNS))
    return f"{found}; the twin is the model with fixed betas that has these rates."


TARGET_RATES = Table(
    "rates",
    target_rates,
    {
        "data": "{data}",
        "asked, nats: z2, z1": "{asked}",
        "on the test set": "{found}",
        "PSNR dB": "{psnr_db:.2f}",
        "twin": "{gain_db:+.2f} dB",
    },
    note=lengths,
    result=RUNS[0],
)
ARCHIVE_FEATURES = Table(
    "archive_features",
    "rows",
    {
        "columns": "{features}",
        "number": "{columns}",
        "right": "{accuracy:.1%}",
        "seconds: columns + classifier": "{feature_seconds:.2f} + {classifier_seconds:.2f}",
    },
    note="{data}, {archive_bytes_per_picture:.1f} bytes each; {seconds}.",
)


def scores(result: Result) -> Mapping[str, Text]:
    """Areas under the ROC curves, one of each score."""
    kinds = result["sets"]["CIFAR-10, grey"]["auc"]
    areas = {kind: f"{{auc[{kind}]:.3f}}" for kind in kinds}
    return {"area under the ROC, MNIST against": "{set}"} | areas


ANOMALY = Table(
    "anomaly",
    lambda result: [{"set": s} | row for s, row in result["sets"].items() if "auc" in row],
    scores,
)
TABLES = (LADDER, EFFORTS, SEAMS, TARGET_RATES, ARCHIVE_FEATURES, ANOMALY)


def accuracies() -> str:
    """Table 1's rows of CIFAR-10, the paper's and the committed sweep's."""
    text = (RESULTS / "sweeps/cifar10-ghvae/report/table1.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return "\n".join(row for row in rows if "SVHN" not in row)

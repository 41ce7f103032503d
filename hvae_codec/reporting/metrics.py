"""The measurements that are drawn: names, symbols, units, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

from hvae_codec.reporting.results import ModelRow, Sweep

CLASSIFIERS = {
    "logistic_regression": "log. reg.",
    "linear_svm": "lin. SVM",
    "rbf_svm": "RBF SVM",
    "knn": "kNN",
}
"""Table 1's columns: keys of evaluation.jsonl and the paper's names."""

PROTOCOLS = {"paper": "the paper's protocol", "standardised": "standardised features"}
LAYERS = ("z2", "z1")


@dataclass(frozen=True)
class Metric:
    """`key` of `ModelRow.values`; shown is the value times `scale`, with `decimals` digits, in
    `unit`; `label` is plain text, `symbol` the same for matplotlib's mathtext.
    """

    key: str
    label: str
    symbol: str
    unit: str = ""
    scale: float = 1.0
    decimals: int = 2
    higher_is_better: bool = True

    def of(self, row: ModelRow) -> float | None:
        """The shown value, or None where it was not measured."""
        value = row.values.get(self.key)
        return None if value is None else value * self.scale

    def score(self, row: ModelRow) -> float:
        """The measured value, negated where lower is better.

        Raises:
            KeyError: not measured.
        """
        return row.values[self.key] if self.higher_is_better else -row.values[self.key]

    def text(self, value: float) -> str:
        """A shown value with its unit."""
        return f"{value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")

    @property
    def title(self) -> str:
        """The symbol with its unit, for axes."""
        return f"{self.symbol} ({self.unit})" if self.unit else self.symbol


def accuracy(classifier: str, layer: str = "z2", protocol: str = "paper") -> Metric:
    """Accuracy of a classifier on the modes of a layer."""
    name, number = CLASSIFIERS[classifier], layer[1:]
    more = "" if protocol == "paper" else ", standardised"
    return Metric(
        f"accuracy.{protocol}.{layer}.{classifier}",
        f"{name} accuracy on \u03bc{_SUBSCRIPTS[int(number)]}{more}",
        f"{name} on $\\mu_{number}${more}",
        "%",
        100.0,
        1,
    )


_SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉"

PSNR = Metric("psnr_modes_db", "PSNR through the modes", "PSNR", "dB")
PSNR_SAMPLES = Metric("psnr_samples_db", "PSNR through samples", "PSNR, samples", "dB")
NEGATIVE_ELBO = Metric(
    "negative_elbo_nats", "negative ELBO", "$-$ELBO", "nats", decimals=1, higher_is_better=False
)
INCEPTION = Metric("inception_score", "Inception Score", "IS", decimals=3)
DIVERSITY = Metric("diversity", "diversity", "diversity", decimals=3)
SHARPNESS = Metric("sharpness", "sharpness", "sharpness", decimals=3)
INFORMATION = Metric("information_nats", "I(y; z₂)", "$I_q(y; z_2)$", "nats", decimals=3)
RBF_SVM = accuracy("rbf_svm")

METRICS = (
    PSNR,
    PSNR_SAMPLES,
    NEGATIVE_ELBO,
    INCEPTION,
    DIVERSITY,
    SHARPNESS,
    INFORMATION,
    *(accuracy(name, layer, p) for p in PROTOCOLS for layer in LAYERS for name in CLASSIFIERS),
)
"""All of them, in the order in which they are offered."""


def measured_alone(sweep: Sweep, metric: Metric) -> tuple[ModelRow, ...]:
    """The rows of models alone that hold the metric."""
    return tuple(row for row in sweep.alone if metric.key in row.values)


def measured(sweep: Sweep, metric: Metric) -> tuple[ModelRow, ...]:
    """The rows that hold the metric."""
    return tuple(row for row in sweep.rows if metric.key in row.values)

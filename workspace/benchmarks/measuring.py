"""How things are measured: product and reference in turn, medians, ratios. Knows nothing of what is measured."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

median = statistics.median


@dataclass(frozen=True)
class Setting:
    """One comparison. `product` and `reference` are what is typical, in `unit`; `detail` is reported beside them."""

    name: str
    product: float
    reference: float
    better: Literal["higher", "lower"]
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Above 1: the product is better."""
        return self.product / self.reference if self.better == "higher" else self.reference / self.product


@dataclass(frozen=True)
class Comparison:
    """What a benchmark found. `sides` says what product and reference were."""

    name: str
    unit: str
    sides: dict[str, str]
    settings: Sequence[Setting]

    def as_dict(self) -> dict[str, Any]:
        """At the top level the setting with the worst ratio."""
        worst = min(self.settings, key=lambda setting: setting.ratio)
        return {
            "benchmark": self.name,
            "product": round(worst.product, 4),
            "reference": round(worst.reference, 4),
            "ratio": round(worst.ratio, 3),
            "unit": self.unit,
            "sides": self.sides,
            "settings": [
                {
                    **asdict(setting),
                    "product": round(setting.product, 4),
                    "reference": round(setting.reference, 4),
                    "ratio": round(setting.ratio, 3),
                }
                for setting in self.settings
            ],
        }


def typical(product: Sequence[float], reference: Sequence[float]) -> tuple[float, float]:
    """Of what was measured in turn, the pair with the median ratio.

    A busy neighbour slows a pair, and the ratio of two medians would be that of different neighbours.
    """
    pairs = sorted(zip(product, reference, strict=True), key=lambda pair: pair[0] / pair[1])
    return pairs[len(pairs) // 2]


def alternate(product: Callable[[], Any], reference: Callable[[], Any], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each call, product and reference in turn, so that both meet the same neighbours."""
    first: list[float] = []
    second: list[float] = []
    for _ in range(rounds):
        for call, times in ((product, first), (reference, second)):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
    return first, second

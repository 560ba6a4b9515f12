"""Online change detectors: one algorithm a file, one small protocol for each of two kinds, one registry for each.

*Models* are likelihood ratios; a `Bank` runs them on many streams at once and keeps a promise about false alarms. The
*distribution* model keeps it too, for all outcomes of a circuit, one object a stream. *Detectors* are River's, one
object a stream, without a promise. To add one: its file, and its line here. The laws in `tests/detectors` then run on
it by themselves.
"""

from collections.abc import Callable
from typing import Final

from detectors.adwin import Adwin
from detectors.bank import Bank, Baseline, Change
from detectors.bernoulli import Bernoulli
from detectors.beta import Beta
from detectors.beta_binomial import BetaBinomial
from detectors.betting import Betting
from detectors.dirichlet_multinomial import DirichletMultinomial, Moved
from detectors.gaussian import Gaussian
from detectors.kswin import Kswin
from detectors.model import Model
from detectors.page_hinkley import PageHinkley
from detectors.protocol import Detector, NonFiniteError
from detectors.variance import Variance

MODELS: Final[dict[str, Callable[..., Model]]] = {
    "gaussian": Gaussian,
    "beta": Beta,
    "bernoulli": Bernoulli,
    "beta_binomial": BetaBinomial,
    "betting": Betting,
    "variance": Variance,
}
DISTRIBUTIONS: Final[dict[str, Callable[..., DirichletMultinomial]]] = {"dirichlet_multinomial": DirichletMultinomial}
REGISTRY: Final[dict[str, Callable[..., Detector]]] = {
    "adwin": Adwin,
    "page_hinkley": PageHinkley,
    "kswin": Kswin,
}

__all__ = [
    "DISTRIBUTIONS",
    "MODELS",
    "REGISTRY",
    "Bank",
    "Baseline",
    "Change",
    "Detector",
    "DirichletMultinomial",
    "Model",
    "Moved",
    "NonFiniteError",
]

"""MSA-Net in JAX/Flax: networks, training, evaluation, prediction. Research software, not for diagnosis.

Public interface: `load`, `predict`, `train`, `evaluate`, `simulate`. They load JAX and the networks when called.
"""

from msanet_jax.api import evaluate, load, predict, simulate, train
from msanet_jax.runtime.versions import VERSION as __version__  # noqa: N811 - the name that Python expects

__all__ = ["__version__", "evaluate", "load", "predict", "simulate", "train"]

"""Networks through torch.compile."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo.errors import UsageError
from kdzoo.models.taps import TappedModel

_FORMS = 256
"""Torch gives up in silence after eight forms of a function; each network, mode and choice of signals has its own."""


def check_compiler(device: torch.device) -> None:
    """Refuse ``--compile`` where it cannot work, before anything trains.

    Args:
        device: where networks are trained.

    Raises:
        UsageError: torch.compile fails on the smallest function, as it does without a C++ compiler.
    """
    import torch._inductor.config as inductor

    try:
        with inductor.patch(force_disable_caches=True):  # what was compiled before says nothing of a compiler now
            torch.compile(_double)(torch.ones(2, device=device))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"--compile: torch.compile does not work here ({reason}); install what it needs (on a CPU a C++ compiler), "
            "or leave out --compile"
        ) from None


def _double(values: Tensor) -> Tensor:
    return values + values


def compile_network(network: TappedModel) -> None:
    """Run a network through torch.compile from its next call on; its state dict stays as it is.

    A copy of it, such as a moving average, runs without.
    """
    import torch._dynamo.config as dynamo

    dynamo.recompile_limit = max(dynamo.recompile_limit, _FORMS)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, _FORMS)
    network.compile()

"""A network with its pre-processing in front: raw inputs in, one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# The name of the sub-module that prepares inputs; what lies in it is the stage of that name, on the host.
PREPROCESS = "preprocess"


def join(preprocess: torch.nn.Module, network: torch.nn.Module) -> torch.nn.Module:
    """``network`` behind ``preprocess``, which maps the raw inputs, passed by name, to a dictionary of its inputs.

    The network's modules keep their paths, so that its layers have one name with and without pre-processing. What
    ``preprocess`` gives moves to the network's device and, if floating point, to its type.
    """
    import torch

    like = next((item for item in network.parameters() if item.is_floating_point()), torch.empty(0))
    kind: Any = type(network)

    class EndToEnd(kind):
        def forward(self, **raw: torch.Tensor) -> Any:
            ready = getattr(self, PREPROCESS)(**raw)
            here = next(self.network_parameters(), like)
            return super().forward(
                **{
                    name: value.to(here.device, here.dtype if value.is_floating_point() else None)
                    for name, value in ready.items()
                }
            )

        def network_parameters(self) -> Any:
            for name, item in self.named_parameters():
                if item.is_floating_point() and not name.startswith(f"{PREPROCESS}."):
                    yield item

    network.__class__ = EndToEnd
    network.add_module(PREPROCESS, preprocess.eval())
    return network

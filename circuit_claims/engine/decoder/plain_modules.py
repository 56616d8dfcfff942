"""A model's own modules, taken out of the bridge that is wrapped around them.

TransformerBridge puts a component with hooks in the place of each module. A step that is taken many thousand times has no use
for these, so the modules are copied without them: new objects around the same weights, raw or processed, whichever they are.
"""

import copy
from typing import Any

from torch import nn


def plain(module: Any) -> Any:
    """A module without the bridge's components around it and inside it; its parameters are the same objects."""
    while (original := getattr(module, "original_component", None)) is not None:
        module = original
    if not isinstance(module, nn.Module) or not any(module.children()):
        return module
    unwrapped = copy.copy(module)
    unwrapped._modules = {name: plain(child) for name, child in module._modules.items()}
    return unwrapped


def bare(component: Any) -> Any:
    """What a bridge's component is around, with whatever is inside it as it is."""
    while (original := getattr(component, "original_component", None)) is not None:
        component = original
    return component

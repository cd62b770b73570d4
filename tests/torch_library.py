"""PyTorch for the oracle tests: timm and transformers import torchvision, of which they need names.

Its builds for CUDA do not load beside a PyTorch for the CPU; then its operators are declared here.
"""

import pytest

torch = pytest.importorskip("torch")

try:
    import torchvision  # noqa: F401
except RuntimeError:
    _library = torch.library.Library("torchvision", "DEF")  # alive as long as this module is
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
except ImportError:
    pass

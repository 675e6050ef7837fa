"""How networks run for scoring."""

from __future__ import annotations

import torch

from ric.metrics.networks import exact_inference


def test_networks_run_without_tensorfloat_32_whatever_was_set_before():
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            with exact_inference():
                assert torch.get_float32_matmul_precision() == "highest"
                assert not torch.backends.cudnn.allow_tf32
                assert torch.is_inference_mode_enabled()
            assert torch.get_float32_matmul_precision() == "high"
            assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")

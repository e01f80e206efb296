"""Which features the propagator compares, by the tracker's settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fiftyone_colortrack.model.colorizer import build
from fiftyone_colortrack.tracking import TrackerConfig
from fiftyone_colortrack.tracking.propagator import ColorPropagator

FRAME = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


@pytest.mark.parametrize(
    ("preset", "detail", "stride", "coarse", "fine"),
    [
        ("fast", "coarse", 8, (12, 16), None),
        ("fast", "standard", 4, (12, 16), (24, 32)),
        ("fast", "fine", 4, (24, 32), None),
        ("lab", "fine", 4, (12, 16), (24, 32)),  # has no network to run at 4 pixels
        ("paper", "fine", 8, (12, 16), None),
    ],
)
def test_detail_decides_the_size_of_cells(preset, detail, stride, coarse, fine):
    config = TrackerConfig(detail=detail, input_size=(96, 128))
    propagator = ColorPropagator(build(preset).eval(), config)
    features = propagator.prepare(FRAME, propagator.grid((96, 128)))
    assert propagator.stride == stride
    assert features.coarse.shape[:2] == coarse
    assert (features.fine is not None and features.fine.shape[:2]) == (fine or False)


def test_half_the_stride_has_the_same_weights():
    model = build("fast", lab_weight=0.5).eval()
    finer = model.at_half_stride()
    assert (finer.stride, finer.lab_weight, finer.temperature) == (4, 0.5, model.temperature)
    assert all(torch.equal(value, finer.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_papers_protocol_compares_by_plain_dot_products():
    model = build("paper").eval()
    for config, unit_length in ((TrackerConfig(), True), (TrackerConfig.paper(), False)):
        propagator = ColorPropagator(model, config)
        features = propagator.prepare(FRAME, propagator.grid((96, 128))).coarse
        lengths = features.norm(dim=-1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=0.01) == unit_length

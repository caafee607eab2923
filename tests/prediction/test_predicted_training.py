"""Devices, how a model is spread over them, and how long they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.toys import ToyViT
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.objectives.default import default_objective
from zipeft.prediction.devices import device_named, known_devices
from zipeft.prediction.training import Devices, Prediction

A100 = device_named("a100-80gb")


def prediction(devices: Devices, batch_size: int = 8) -> Prediction:
    backbone, method = ToyViT(), registry.methods.get("full")()

    def build():
        return build_learner(
            method.adapt, backbone, backbone.build().requires_grad_(False), default_objective(backbone), ["a", "b"]
        )

    protocol = TrainingProtocol(epochs=3, batch_size=batch_size, precision="bf16")
    return Prediction(build, lambda size: backbone.random_batch(size, image_size=16), method, protocol, devices)


def test_devices_are_faster_in_half_precision_and_say_where_that_is_published():
    assert known_devices()
    for device in known_devices().values():
        assert device.peak("bf16") == device.half > device.fp32 == device.peak("fp32")
        assert 20e9 < device.memory < 200e9
        assert device.source


def test_an_unknown_device_is_named():
    with pytest.raises(UserError, match="did you mean 'a100-80gb'"):
        device_named("a100-80g")


def test_sharding_spreads_what_is_held():
    whole, sharded = prediction(Devices(A100, 2)), prediction(Devices(A100, 2, sharded=True))
    cost = whole.plain
    assert sharded.plain == cost
    saved = whole.peak(cost) - sharded.peak(cost)
    assert saved == cost.held - -(-cost.held // 2) - 2 * cost.largest_block - cost.outside


def test_time_is_arithmetic_over_a_share_of_the_peak():
    one = prediction(Devices(A100, share=0.5))
    assert one.seconds(one.plain) == one.plain.flops / (0.5 * 312e12)
    assert one.hours(one.plain, 17) == pytest.approx(3 * 3 * one.seconds(one.plain) / 3600)
    two = prediction(Devices(A100, 2, share=0.5))
    assert two.plain.flops == pytest.approx(one.plain.flops / 2, rel=0.01)


def test_a_model_that_is_too_large_does_not_fit():
    small = replace(A100, memory=1000.0)
    one = prediction(Devices(small))
    assert not one.fits(one.plain)
    assert prediction(Devices(A100)).fits(one.plain)

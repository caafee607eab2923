"""The table of predicted memory and time."""

from __future__ import annotations

from zipeft.formatting import duration, size
from zipeft.prediction.step import StepCost
from zipeft.prediction.training import Prediction

HEADERS = ["method", "weights", "gradients, optimiser", "activations", "peak", "fits", "a step"]


def prediction_rows(name: str, prediction: Prediction, examples: int | None) -> list[list[str]]:
    """Return a method's rows of ``headers``: as it is, and with checkpointing where anything is kept for a backward
    pass."""
    rows = [_row(name, prediction, prediction.plain, examples)]
    if prediction.plain.activations and prediction.plain.gradients:
        rows.append(_row(f"{name}, checkpointed", prediction, prediction.checkpointed, examples))
    return rows


def headers(examples: int | None) -> list[str]:
    return [*HEADERS, "TFLOP", *([] if examples is None else ["in all"])]


def _row(name: str, prediction: Prediction, cost: StepCost, examples: int | None) -> list[str]:
    parts = prediction.devices.count if prediction.devices.sharded else 1
    hours = [] if examples is None else [duration(3600 * prediction.hours(cost, examples))]
    return [
        name,
        size((sum(cost.weights.values()) + cost.trainables) // parts),
        size((cost.gradients + cost.optimizer) // parts),
        size(cost.activations),
        size(prediction.peak(cost)),
        "yes" if prediction.fits(cost) else "no",
        duration(prediction.seconds(cost)),
        f"{cost.flops / 1e12:.3g}",
        *hours,
    ]


def explanation(prediction: Prediction) -> str:
    """Return in words what the rows are for."""
    devices, protocol = prediction.devices, prediction.protocol
    each = -(-protocol.batch_size // devices.count)
    at_once = min(prediction.micro_batch or each, each)
    how = ", over which the model is sharded" if devices.sharded else ""
    return (
        f"Predicted for each of {devices.count} x {devices.device.name}{how}: batches of {protocol.batch_size}, "
        f"{at_once} at once on a device, in {protocol.precision}; time is the FLOP of a device at "
        f"{devices.share:.0%} of its {devices.device.peak(protocol.precision) / 1e12:g} TFLOP/s."
    )

"""What worker processes save on images: the time of reading an epoch of JPEGs, as a ratio to that without workers.

Run with ``pytest -m slow tests/benchmarks/test_reader_throughput.py``. The files are the two photographs that scikit-
learn brings (640 x 427), copied; each is decoded anew, cropped, resized to 224 pixels and normalised. Variants take
turns, so that they see the same state of a busy machine; the ratio is that of the fastest rounds. Beside reading alone
it is measured with a training step that takes as long as an epoch's reading does on one core: workers hide the one
behind the other. Nothing is asserted of time; what is asserted is that all variants give the same images.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import sklearn.datasets
import torch

from zipeft import registry
from zipeft.api.data import Split
from zipeft.images.reading import ImageFiles
from zipeft.tasks.folder import Folder
from zipeft.training.batches import shuffled_batches
from zipeft.training.dataset import augment
from zipeft.training.readers import Readers

pytestmark = pytest.mark.slow

IMAGES, BATCH, ROUNDS = 96, 8, 2
WORKERS = (0, 1, 2)


@pytest.fixture
def photographs(tmp_path):
    folder = Path(sklearn.datasets.__file__).parent / "images"
    contents = [(folder / name).read_bytes() for name in ("china.jpg", "flower.jpg")]
    paths = [tmp_path / f"{index}.jpg" for index in range(IMAGES)]
    for index, path in enumerate(paths):
        path.write_bytes(contents[index % 2])
    return Split(ImageFiles(tuple(paths)), [index % 2 for index in range(IMAGES)], [path.name for path in paths])


def epoch(photographs: Split, workers: int, step: float) -> tuple[float, str]:
    """Return the seconds of the second epoch, for which workers are there already, and the digest of its images."""
    backbone = registry.backbones.get("vit")(pretrained=False)
    windows = Folder().augmented_windows(backbone, "crop_flip")
    loader = shuffled_batches(augment(photographs, windows, backbone, 0, Readers(workers)), BATCH, seed=0)
    digest = hashlib.sha256()
    for number in range(2):
        loader.sampler.epoch, start = number, time.perf_counter()
        for batch in loader:
            time.sleep(step)  # as a GPU computes: without the CPU
            for part in batch if number else ():
                digest.update(part.content["inputs"].numpy().tobytes())
    return time.perf_counter() - start, digest.hexdigest()


def test_workers_read_jpegs(photographs, capsys):
    torch.set_num_threads(1)
    times: dict[tuple[int, bool], float] = {}
    digests, step = set(), 0.0
    for _round in range(ROUNDS):
        for busy in (False, True):
            for workers in WORKERS:
                seconds, digest = epoch(photographs, workers, step if busy else 0.0)
                digests.add(digest)
                times[workers, busy] = min(seconds, times.get((workers, busy), seconds))
                step = times[0, False] / (IMAGES / BATCH)
    with capsys.disabled():
        print(f"\n{IMAGES} JPEGs of 640 x 427 to 224 pixels, {len(os.sched_getaffinity(0))} cores")
        for (workers, busy), seconds in times.items():
            what = "with a step as long as reading" if busy else "reading alone"
            ratio = times[0, busy] / seconds
            print(f"{what}, {workers} workers: {IMAGES / seconds:.0f} images a second, {ratio:.2f} times those of none")
    assert len(digests) == 1

"""Time the networks and the decoders of the dense methods beside the default's, by turns.

    python benchmarks/method_speed.py [--tile 640] [--repeat 5] [--threads 1] [--mask-rcnn FILE]

Networks have random weights; decoders get the maps that a network would answer that has learnt
its targets by heart, of a tile as crowded as dense tissue. What Mask R-CNN does depends on what it
finds: it has the weights that are shipped, or given. Times are of the processor, so other load on
the machine counts less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from model_speed import tissue

from wsi_engine.models.dense import unet
from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.dense.model import DenseModel, untrained
from wsi_engine.models.devices import reuse_freed_memory
from wsi_engine.models.layers import folded
from wsi_engine.models.maskrcnn import spec as maskrcnn_spec
from wsi_engine.models.maskrcnn.model import load_mask_rcnn
from wsi_engine.models.registry import DENSE
from wsi_engine.models.starconvex.model import load_starconvex

PIXELS_PER_NUCLEUS = 400


def processor_seconds(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each action, one after the other in every round."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(repeats + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if round_:  # the first warms up
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def crowd(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw discs as a label image, twice as fine as the tile's pixels."""
    labels = np.zeros((2 * side, 2 * side), np.uint16)
    rows, columns = np.mgrid[-16:17, -16:17]
    places = rng.integers(16, 2 * side - 17, (side * side // PIXELS_PER_NUCLEUS, 2))
    for number, (y, x) in enumerate(places, start=1):
        disc = np.hypot(rows, columns) < rng.uniform(7, 16)
        labels[y - 16 : y + 17, x - 16 : x + 17][disc] = number
    return labels


def learnt(method: DenseMethod, labels: np.ndarray) -> np.ndarray:
    """Return the maps that the method's targets are."""
    answers = method.targets(labels, margin_px=0).maps
    if method.decode is unet.decode:
        answers = answers[..., -2:]
    return np.rint(255 * answers).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tile", type=int, default=640, help="with its halo")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mask-rcnn", type=Path, help="weights of mask-rcnn")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reuse_freed_memory()
    rng, cpu = np.random.default_rng(0), torch.device("cpu")
    batch = tissue(arguments.tile, rng)[None]
    labels = crowd(arguments.tile, rng)
    default = load_starconvex().to(cpu)
    models = {m.spec.name: DenseModel(m, folded(untrained(m)), m.spec).to(cpu) for m in DENSE}

    maps = default.maps(batch)[0]
    decoders = {"starconvex": lambda: default.decode(maps)}
    answers = {name: learnt(model.method, labels) for name, model in models.items()}
    if arguments.mask_rcnn or maskrcnn_spec.SPEC.embedded:
        models["mask-rcnn"] = load_mask_rcnn(arguments.mask_rcnn).to(cpu)
        answers["mask-rcnn"] = models["mask-rcnn"].maps(batch)[0]

    networks = {"starconvex": lambda: default.maps(batch)}
    networks |= {name: lambda model=model: model.maps(batch) for name, model in models.items()}
    decoders |= {name: lambda name=name: models[name].decode(answers[name]) for name in models}
    of_network = processor_seconds(networks, arguments.repeat)
    of_decoder = processor_seconds(decoders, arguments.repeat)

    megapixels = arguments.tile**2 / 1e6
    print(f"{default.dtype}, {arguments.threads} threads, {arguments.tile} px")
    for name in networks:
        both = of_network[name] + of_decoder[name]
        base = of_network["starconvex"] + of_decoder["starconvex"]
        model = models.get(name, default)
        size = sum(p.numel() for p in model.network.parameters()) * 2 / 1e6
        print(
            f"{name:<14} {size:.1f} MB  network {megapixels / of_network[name]:.2f} Mpx/s, decoder "
            f"{megapixels / of_decoder[name]:.2f}, both {megapixels / both:.2f} "
            f"({base / both:.2f} of the default), halo {model.spec.halo_px} px"
        )


if __name__ == "__main__":
    main()

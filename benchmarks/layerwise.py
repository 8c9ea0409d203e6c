"""What cutting a network into layers costs: a session a layer against one for all, one thread.

    python benchmarks/layerwise.py [--json FILE] [NETWORK...]

Both run in turns; told is the median over rounds of the processor time of each, and their ratio. Weights lie
in memory already in both: what loading costs is another question.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgesched.bridge.bundles.cache import bundle_of
from edgesched.bridge.bundles.generate import generate
from edgesched.bridge.program import Program
from edgesched.workloads import catalogue

NETWORKS = ("AlexNet", "SqueezeNet 1.1", "MobileNet v1", "MobileNet v2", "ResNet-18", "GoogLeNet", "TinyYolo")
ROUNDS = 30


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Milliseconds of processor time of the whole network and of the loop over its layers."""
    import onnxruntime as ort

    model = folder / "model.onnx"
    generate(catalogue.build(name), model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    whole = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    bundle = bundle_of(model, name=name, cache=folder)
    job = Program(bundle).begin()
    job.init()
    for layer in range(len(bundle.layers)):
        job.load(layer)
    images = {put.name: np.zeros(put.shape, np.float32) for put in whole.get_inputs()}
    took: dict[str, list[float]] = {"whole": [], "layers": []}
    for _ in range(ROUNDS):
        began = time.thread_time()
        whole.run(None, images)
        middle = time.thread_time()
        for layer in range(len(bundle.layers)):
            job.execute(layer)
        took["layers"].append(time.thread_time() - middle)
        took["whole"].append(middle - began)
    job.close()
    whole_ms, layers_ms = (1e3 * median(took[which]) for which in ("whole", "layers"))
    return {
        "network": name,
        "layers": len(bundle.layers),
        "whole_ms": whole_ms,
        "layers_ms": layers_ms,
        "ratio": layers_ms / whole_ms,
    }


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, Path(folder)))
        row = rows[-1]
        print(
            f"{name:16s} {row['layers']:4d} layers  whole {row['whole_ms']:7.2f} ms  "
            f"layer by layer {row['layers_ms']:7.2f} ms  ratio {row['ratio']:.3f}",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

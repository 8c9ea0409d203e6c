"""Boards against published measurements: rates of the STM32H743, and the A53 of the RK3399 on a row apart."""

from __future__ import annotations

import csv
import gzip
import math
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from edgesched.devices import boards
from edgesched.devices.rates import nonnegative_least_squares

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "devices"
ZOO = DATA / "stm32ai_modelzoo"
CLOCK_HZ = 400e6
"""Of the STM32H747, whose core is that of the STM32H743."""
ROWS = {
    "FdMobileNet 0.25 @128": ("fdmobilenet_0.25_128_tfs", "FdMobileNet 0.25 tfs", "128x128x3"),
    "FdMobileNet 0.25 @224": ("fdmobilenet_0.25_224_tfs", "FdMobileNet 0.25 tfs", "224x224x3"),
    "MobileNet v1 0.25 @96": ("mobilenet_v1_0.25_96_fft", "MobileNet v1 0.25 fft", "96x96x3"),
    "MobileNet v1 0.25 @224": ("mobilenet_v1_0.25_224_fft", "MobileNet v1 0.25 fft", "224x224x3"),
    "MobileNet v1 0.25 grayscale @96": (
        "mobilenet_v1_0.25_96_grayscale_tfs",
        "MobileNet v1 0.25 tfs",
        "96x96x1",
    ),
    "MobileNet v2 0.35 @128": ("mobilenet_v2_0.35_128_fft", "MobileNet v2 0.35 fft", "128x128x3"),
    "ST FdMobileNet v1 @128": ("st_fdmobilenet_v1_128_tfs", "ST FdMobileNet v1 tfs", "128x128x3"),
    "ST FdMobileNet v1 @224": ("st_fdmobilenet_v1_224_tfs", "ST FdMobileNet v1 tfs", "224x224x3"),
    "ST MNIST @28": ("st_mnist_v1_28_tfs", "ST MNIST Byclass v1 tfs", "28x28x1"),
    "SqueezeNet v1.1 @128": ("squeezenetv1.1_128_tfs", "SqueezeNet v1.1 tfs", "128x128x3"),
    "ST Yolo LC v1 @192": ("st_yolo_lc_v1_192", "st_yolo_lc_v1", "192x192x3"),
    "ST Yolo LC v1 @224": ("st_yolo_lc_v1_224", "st_yolo_lc_v1", "224x224x3"),
    "ST Yolo LC v1 @256": ("st_yolo_lc_v1_256", "st_yolo_lc_v1", "256x256x3"),
}
"""Row as the board names it: file of its layers, model and resolution of its time."""
CLASSES = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "fully-connected",
    "RESHAPE": None, "SHAPE": None, "STRIDED_SLICE": None, "PACK": None, "QUANTIZE": None, "DEQUANTIZE": None,
    "TILE": None,
}  # fmt: skip
"""Operations by class of rates; None: of no time. All that are not named: ``other``."""

Amounts = dict[tuple[str, str], float]


def amounts() -> dict[str, Amounts]:
    """Per row, multiply-accumulates and bytes of each class; padding is part of what it pads for."""
    files: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(ZOO / "tflite_layer_tables.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = row["model_path"].strip()
            files[path.rpartition("/")[2]][path].append(row)
    found = {}
    for name, (stem, *_) in ROWS.items():
        own = files[f"{stem}_int8.tflite"]
        sums: Amounts = defaultdict(float)
        padded = 0
        for layer in own[min(own)]:
            if layer["op"] == "PAD":
                padded = int(layer["in_bytes"])
                continue
            kind = CLASSES.get(layer["op"], "other")
            if kind is not None:
                sums[kind, "mac_s"] += float(layer["macs"])
                sums[kind, "byte_s"] += (padded or int(layer["in_bytes"])) + int(layer["out_bytes"])
            padded = 0
        found[name] = sums
    return found


def measured() -> dict[str, float]:
    with (ZOO / "stm32_inference_time.csv").open(encoding="utf-8") as file:
        times = {
            (row["model"].strip(), row["resolution"]): float(row["inference_ms"]) / 1e3
            for row in csv.DictReader(file)
            if row["board"] == "STM32H747I-DISCO" and row["version"] == "8.1.0"
        }
    return {name: times[model, resolution] for name, (_, model, resolution) in ROWS.items()}


def test_the_h743s_rates_and_errors_are_those_of_the_fit_it_states() -> None:
    if not ZOO.exists():
        pytest.skip("the measurement data (../shared/data/devices/stm32ai_modelzoo) is not here")
    device = boards.load("stm32h743")
    assert device.calibration is not None
    slower = device.processors[0].operating_points[0].frequency_hz / CLOCK_HZ
    rates = {
        (kind, unit): getattr(own, unit) * slower
        for kind, own in device.cost.execute.items()
        for unit in ("mac_s", "byte_s")
    }
    fitted = ("convolution", "mac_s"), ("depthwise", "byte_s")
    sums, times = amounts(), measured()
    known = np.array(
        [
            sum(count * rates[what] for what, count in own.items() if what not in fitted)
            for own in sums.values()
        ]
    )
    features = np.array([[own[what] for what in fitted] for own in sums.values()])
    seconds = np.array([times[name] for name in sums])

    def fit(rows: list[int]) -> np.ndarray:
        larger = seconds[rows]
        for _ in range(100):
            found = nonnegative_least_squares(
                features[rows] / larger[:, None], (seconds - known)[rows] / larger
            )
            larger = np.maximum(seconds[rows], features[rows] @ found + known[rows])
        return found

    everything = list(range(len(sums)))
    assert fit(everything) == pytest.approx([rates[what] for what in fitted], rel=1e-3)
    first = device.calibration.fitted[0]
    errors = (features @ [rates[what] for what in fitted] + known) / seconds - 1
    for name, error in zip(sums, errors, strict=True):
        assert error == pytest.approx(first.errors[f"STM32H747 at 400 MHz: {name}"], abs=0.002)
    families = ["FdMobileNet", "MobileNet v1", "MobileNet v2", "MNIST", "SqueezeNet", "Yolo"]
    of = [next(each for each in families if each in name) for name in sums]
    left_out = []
    for family in families:
        rest = fit([index for index in everything if of[index] != family])
        for index, name in enumerate(sums):
            if of[index] == family:
                error = (features[index] @ rest + known[index]) / seconds[index] - 1
                stated = first.left_out_errors[f"STM32H747 at 400 MHz, its family left out: {name}"]
                assert error == pytest.approx(stated, abs=0.002), name
                left_out.append(abs(error))
    assert statistics.median(left_out) < 0.03
    assert max(left_out) < 0.12


def test_the_a53s_factor_holds_for_another_version_of_the_library() -> None:
    """Six networks by ARM-CO-UP, which nothing was fitted to: 4 x A53 over 2 x A72, highest frequencies."""
    source = DATA / "rk3399_layers" / "coup_layers.csv.gz"
    if not source.exists():
        pytest.skip("the measurement data (../shared/data/devices/rk3399_layers) is not here")
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with gzip.open(source, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["Metric"] == "task" and (row["Component"], float(row["Freq"])) in {("B", 7.0), ("L", 5.0)}:
                times[row["Graph"], row["Component"], row["Layer"]].append(float(row["time_ms"]))
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for (graph, component, _), own in times.items():
        sums[graph, component] += statistics.median(own)
    factors = [sums[graph, "L"] / sums[graph, "B"] for graph in sorted({graph for graph, _ in sums})]
    assert len(factors) == 6
    mean = math.exp(statistics.mean(math.log(factor) for factor in factors))
    stated = boards.load("firefly-rk3399").cost.on["a53"].gemm_scale
    assert stated == pytest.approx(mean, rel=0.02)
    assert all(abs(stated / factor - 1) < 0.15 for factor in factors)

"""Mixes and streams that several tests draw from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgesched.workloads.mix import Composition
from edgesched.workloads.workload import RequestPlan, Workload

N = 40_000
"""Draws that shares are counted in."""
POOL = ["TinyYolo", "AgeNet", "GenderNet", "FaceNet", "SceneNet"]

QUADCOPTER = {
    "mix": "choice",
    "alternatives": [{"weight": 0.75, "networks": ["TinyYolo"]}, {"weight": 0.25, "networks": POOL}],
}
FACES = {
    "mix": "dependency",
    "stages": [
        {"networks": ["SceneNet", "FaceNet"]},
        {"networks": ["AgeNet", "GenderNet"], "after": "FaceNet", "probability": 0.6},
        {"networks": ["EmotionNet"], "after": "GenderNet", "probability": 0.5},
    ],
}
MIXES: list[Any] = [
    POOL,
    {"mix": "random", "pool": POOL, "count": 2},
    {"mix": "random", "pool": POOL, "count": 7, "replacement": True},
    {"mix": "random", "pool": ["A", "B"], "weights": {"A": 3, "B": 1}},
    {"mix": "random-composition", "pool": POOL, "largest": 3},
    QUADCOPTER,
    FACES,
]

CAMERA = {"name": "camera", "arrivals": {"process": "poisson", "rate_per_s": 5}, "networks": QUADCOPTER}
AUDIO = {
    "name": "audio",
    "arrivals": {"process": "gamma", "rate_per_s": 2, "cv": 2},
    "networks": {"mix": "random", "pool": ["Speech", "Keyword", "Noise"]},
    "deadline_s": {"Speech": 0.5},
}
LIDAR = {"name": "lidar", "arrivals": {"process": "deterministic", "period_s": 0.5}, "networks": ["Points"]}


def names(composition: Composition) -> tuple[str, ...]:
    return tuple(member.network for member in composition)


def near(seen: int, probability: float, n: int = N) -> bool:
    """Whether what has this probability was seen about as often as it should be, in ``n`` draws."""
    return abs(seen - n * probability) < 4 * math.sqrt(n * probability * (1 - probability))


def workload(*streams: Any) -> Workload:
    return Workload.model_validate({"streams": list(streams)})


def requests(plan: RequestPlan, stream: str) -> list[tuple[float, Composition]]:
    """Arrival times and compositions of one stream."""
    index = plan.streams.index(stream)
    times = np.cumsum(plan.gap_s)
    return [
        (round(float(time), 9), plan.compositions[which])
        for time, which, at in zip(times, plan.composition, plan.stream, strict=True)
        if at == index
    ]

"""Fully-connected layers: a matrix times the values of the tensor in the order of chw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..arena import Arena
from ..primitive import FLOAT, Array
from .layer import LayerPrimitive, LayerShape


class FullyConnected(LayerPrimitive):
    """Weights (M, F) as they are, the bias behind them."""

    def misfit(self, shape: LayerShape) -> str | None:
        """As many weights as the shapes need, with or without a bias."""
        products = math.prod(shape.inputs[0]) * math.prod(shape.output)
        if shape.weights in (products, products + math.prod(shape.output)):
            return None
        return f"it has {shape.weights} weights"

    def weight_elements(self, shape: LayerShape) -> int:
        """M F, and M of a bias."""
        return shape.weights

    def prepare(self, weights: Mapping[str, Array], shape: LayerShape) -> Array:
        """Weights, then bias."""
        parts = [weights[name].reshape(-1) for name in ("weight", "bias") if name in weights]
        return np.concatenate(parts).astype(FLOAT, copy=False)

    def run(
        self, inputs: Sequence[Array], weights: Array, out: Array, shape: LayerShape, arena: Arena
    ) -> None:
        """Compute one image."""
        image, result = inputs[0].reshape(-1), out.reshape(-1)
        matrix, bias = np.split(weights, [len(image) * len(result)])
        np.matmul(matrix.reshape(len(result), len(image)), image, out=result)
        if len(bias):
            np.add(result, bias, out=result)


PRIMITIVES = (FullyConnected("fully-connected", "chw"),)

"""Kokoro-82M's int8 ONNX file as named arrays: what `teacher_weights.py` stores.

The names are those of the published PyTorch model with weight normalisation folded away. Needs the
`onnx` package, on the machine that prepares the teacher only.
"""

import re
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from training.demo_voice.teacher_weights import Quantized, Weights

_NUMBERED = re.compile(r"(albert_layers\.0\.(?:attention\.)?[a-z_]+?)_\d+$")
_UNUSED = re.compile(r"_scale$|_zero_point$|stft")


def convert(model_bytes: bytes) -> Weights:
    """Every weight of the model."""
    return dict(_Reader(onnx.load_from_string(model_bytes).graph).weights())


def _module(node_name: str) -> str:
    """The PyTorch module a node was exported from: `/encoder/cnn.0/cnn.0.0/Conv` is cnn.0.0."""
    path = node_name.strip("/").split("/")[:-1]
    if path[0] == "decoder":
        path = ["decoder", *path[2:]]
    else:
        path = path[1:]
        if path[0].split(".")[0] in ("F0", "N", "shared", "F0_proj", "N_proj"):
            path = ["predictor", *path]
    named: list[str] = []
    for part in path:
        if named and (part.startswith(named[-1] + ".") or named[-1] == part.split(".")[0]):
            named[-1] = part
        else:
            named.append(part)
    return _NUMBERED.sub(r"\1", ".".join(named))


class _Reader:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes = {node.name: node for node in graph.node}
        self._dequantizers = {
            node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"
        }

    def weights(self) -> Iterator[tuple[str, NDArray[np.float32] | Quantized]]:
        named: set[str] = set()
        for node in self._graph.node:
            for name, value in self._of_node(node):
                named.add(name)
                yield name, value
        for stored, value in self._stored.items():
            name = stored.removeprefix("decoder.").removeprefix("encoder.")
            plain = value.dtype == np.float32 and not _UNUSED.search(stored)
            if name != stored and plain and name not in named:
                yield name, value

    def _of_node(
        self, node: onnx.NodeProto
    ) -> Iterator[tuple[str, NDArray[np.float32] | Quantized]]:
        inputs = node.input
        if node.op_type in ("MatMulInteger", "ConvInteger") and inputs[1] in self._stored:
            zero = (
                self._stored[inputs[3]] if len(inputs) > 3 and inputs[3] else np.zeros((), np.uint8)
            )
            weight = Quantized.of(self._stored[inputs[1]], zero, self._scale(node))
            is_matrix = node.op_type == "MatMulInteger"
            yield f"{_module(node.name)}.weight", weight.transposed() if is_matrix else weight
        elif node.op_type == "DynamicQuantizeLSTM":
            yield from self._lstm(_module(node.name), [self._stored.get(name) for name in inputs])
        elif node.op_type in ("Conv", "ConvTranspose") and "istft" not in node.name:
            if inputs[1] in self._stored:
                yield f"{_module(node.name)}.weight", self._stored[inputs[1]]
        elif node.op_type == "Gather" and inputs[0].endswith(".weight_quantized"):
            _, scale, zero = self._dequantizers[node.output[0]].input
            weight = Quantized.of(self._stored[inputs[0]], self._stored[zero], self._stored[scale])
            yield inputs[0].removeprefix("encoder.").removesuffix("_quantized"), weight
        elif node.op_type == "MatMul" and node.name.endswith("l_linear/MatMul"):
            (weight_name,) = (name for name in inputs if name in self._stored)
            yield "decoder.generator.m_source.l_linear.weight", self._stored[weight_name].T

    def _scale(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        """Scales that several weights share are found at the multiplication after the node."""
        own = node.input[1].removesuffix("_quantized") + "_scale"
        if own not in self._stored:
            inputs = self._nodes[node.name + "_scales_mul"].input
            (own,) = (name for name in inputs if name in self._stored)
        scale: NDArray[np.float32] = self._stored[own]
        return scale

    @staticmethod
    def _lstm(
        module: str, inputs: list[NDArray[np.generic] | None]
    ) -> Iterator[tuple[str, NDArray[np.float32] | Quantized]]:
        """ONNX keeps gates in the order input, output, forget, cell; PyTorch wants i, f, c, o."""
        matrices = {"weight_ih_l0": (1, 8, 9), "weight_hh_l0": (2, 10, 11)}
        biases = inputs[3]
        if biases is None:
            raise ValueError(f"{module} has no biases")
        gates = biases.shape[1] // 2
        quarter = gates // 4
        order = np.r_[0:quarter, 2 * quarter : gates, quarter : 2 * quarter]
        for direction, suffix in enumerate(("", "_reverse")):
            for name, (weight, scale, zero) in matrices.items():
                parts = [inputs[index] for index in (weight, zero, scale)]
                matrix, middle, step = (part[direction] for part in parts if part is not None)
                yield f"{module}.{name}{suffix}", Quantized.of(matrix.T[order], middle, step)
            yield f"{module}.bias_ih_l0{suffix}", biases[direction][:gates][order]
            yield f"{module}.bias_hh_l0{suffix}", biases[direction][gates:][order]

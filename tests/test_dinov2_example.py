"""A real DINOv2, ViT-S/14: the graph that it was exported as says the same of the same pixels."""

from __future__ import annotations

from pathlib import Path

import dinov2_from_onnx
import numpy as np
import onnx
import pytest
import torch
from foundry_testing.vision_folders import pictures, their_features
from onnx.reference import ReferenceEvaluator
from transformers import Dinov2Model

from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.vit import ViT
from robot_foundry.trainer.pretrained.vision import read_vision

IMAGE = (28, 56)  # few patches: the reference evaluator resizes positions number by number


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    try:
        return onnx.load(dinov2_from_onnx.packaged())
    except SystemExit as absent:
        pytest.skip(f"{absent}, as `make test` does")


def features_in(graph: onnx.ModelProto, image_NHWC: np.ndarray) -> np.ndarray:
    """What the graph's own nodes make of pictures, behind the last norm."""
    last = next(node for node in graph.graph.node if "backbone.layernorm.bias" in node.input)
    shortened = onnx.ModelProto()
    shortened.CopyFrom(graph)
    del shortened.graph.output[:]
    output = onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None)
    shortened.graph.output.append(output)
    mean, std = (np.array(value, np.float32) for value in dinov2_from_onnx.PREPROCESSOR.values())
    scaled = (image_NHWC / np.float32(255) - mean) / std
    inputs = {"input_image": scaled.transpose(0, 3, 1, 2)}
    return ReferenceEvaluator(shortened).run(None, inputs)[0][:, 1:]


def test_features_are_those_of_the_graph_and_of_transformers(graph: onnx.ModelProto, tmp_path: Path) -> None:
    dinov2_from_onnx.write_folder(graph, tmp_path)
    found = read_vision(tmp_path)
    assert found.grid == (37, 37) and not found.unused
    vit = allocated(lambda: ViT(found.config, IMAGE), "cpu")
    found.fill(dict(vit.named_parameters()), IMAGE)
    image_NHWC = pictures(*IMAGE, number=1)
    with torch.no_grad():
        ours = vit(torch.from_numpy(image_NHWC))
    assert np.abs(ours.numpy() - features_in(graph, image_NHWC)).max() < 5e-5  # of features up to 10
    model = Dinov2Model.from_pretrained(tmp_path)
    theirs = their_features(model, image_NHWC, found.config.pixel_mean, found.config.pixel_std)
    assert torch.allclose(ours, theirs, atol=5e-5)

import numpy as np
import torch
from torch import nn

from benchmarks.zoo_training import as_inputs, train
from training.data import Pictures


def test_inputs_are_from_minus_two_to_two():
    images = np.zeros((1, 2, 3, 3), dtype=np.uint8)
    images[0, 0, 1] = [255, 51, 0]
    inputs = as_inputs(images)
    assert inputs.shape == (1, 3, 2, 3)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[0, :, 0, 1], torch.tensor([2.0, -1.2, -2.0]))


def test_a_few_steps_tell_dark_from_bright():
    torch.manual_seed(0)
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).integers(0, 128, (64, 8, 8, 3), dtype=np.uint8)
    images[labels == 1] += 120
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2)
    )
    train(network, Pictures(images, labels, ("dark", "bright")), steps=20)
    with torch.no_grad():
        found = network.eval()(as_inputs(images)).argmax(1).numpy()
    assert np.array_equal(found, labels)

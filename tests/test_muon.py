import keras
import numpy as np
import pytest

from digits.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(288, 64), (64, 288)])
def test_all_directions_are_about_equally_long(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    made = np.asarray(orthogonal(keras.ops.convert_to_tensor(matrix)))
    lengths = np.linalg.svd(made, compute_uv=False)
    assert lengths.min() > 0.6 and lengths.max() < 1.3
    assert np.sum(matrix * made) > 0.6 * np.linalg.svd(matrix, compute_uv=False).sum()  # and they stay where they were


def test_steps_of_kernels_and_of_the_rest():
    kernel, bias = (keras.Variable(np.zeros(shape, np.float32)) for shape in ((3, 3, 8, 16), (16,)))
    gradients = [np.random.default_rng(0).normal(size=v.shape).astype(np.float32) for v in (kernel, bias)]
    optimizer = Muon(0.01)
    optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], [kernel, bias])
    np.testing.assert_allclose(bias.numpy(), -0.01 * np.sign(gradients[1]), rtol=1e-3)  # Adam's first step
    assert np.sum(kernel.numpy() * gradients[0]) < 0
    assert np.sqrt(np.mean(kernel.numpy() ** 2)) == pytest.approx(0.01 * 0.2, rel=0.3)  # as Adam's: 0.2 on average

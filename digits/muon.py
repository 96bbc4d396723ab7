"""The optimizer of short runs: Muon for the convolutions, Adam for the rest."""

import keras
from keras import ops

MOMENTUM = 0.95


class Muon(keras.optimizers.Adam):
    """Adam, but with orthogonalized updates of convolution kernels, so that rare features are learnt, too.

    keras.optimizers.Muon hands every variable that is not of rank 2 to AdamW, so convolutions would not get Muon.

    (K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scaled as in J. Liu et al.,
    "Muon is scalable for LLM training", 2025, so that one learning rate serves both.)
    """

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) != 4:
            return super().update_step(gradient, variable, learning_rate)
        momentum = self._momentums[self._get_variable_index(variable)]
        self.assign(momentum, MOMENTUM * momentum + gradient)
        matrix = ops.reshape(gradient + MOMENTUM * momentum, (-1, variable.shape[-1]))
        step = 0.2 * max(matrix.shape) ** 0.5 * orthogonal(matrix)
        self.assign_sub(variable, ops.reshape(ops.cast(learning_rate, step.dtype) * step, variable.shape))


def orthogonal(matrix):
    """Approximately the nearest orthogonal matrix, by five steps of a Newton-Schulz iteration (K. Jordan et al.)."""
    if matrix.shape[0] > matrix.shape[1]:
        return ops.transpose(orthogonal(ops.transpose(matrix)))
    matrix = matrix / (ops.norm(matrix) + 1e-7)
    for _ in range(5):
        square = matrix @ ops.transpose(matrix)
        matrix = 3.4445 * matrix + (-4.775 * square + 2.0315 * square @ square) @ matrix
    return matrix

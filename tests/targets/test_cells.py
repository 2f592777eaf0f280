"""PALS on grids that are coarser or finer than the network's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inputs import IGNORE, make_inputs, q_of, soft_labels

from pals_jax.outputs import Outputs
from pals_jax.targets import Inputs, labels_from_index


def test_coarser_grid_takes_area_means():
    inputs = make_inputs(seed=12, size=(8, 8), stride=2, ignored=0, batch=1)
    probs = jax.nn.softmax(inputs.outputs.logits)

    def halve(array):
        return array.reshape(1, 2, 2, 2, 2, -1).mean((2, 4))

    coarse = Inputs(
        inputs.labels,
        Outputs(jnp.log(halve(probs)), halve(inputs.outputs.features)),
        inputs.images,
    )
    np.testing.assert_allclose(q_of(inputs, stride=4), q_of(coarse), atol=1e-5)


def test_finer_grid_interpolates_logits_and_features():
    inputs = make_inputs(seed=13, size=(8, 8), stride=4, ignored=0, batch=1)

    def double(array):
        return jax.image.resize(array, (1, 4, 4, array.shape[-1]), "linear")

    fine = inputs._replace(
        outputs=Outputs(double(inputs.outputs.logits), double(inputs.outputs.features))
    )
    np.testing.assert_allclose(q_of(inputs, stride=2), q_of(fine), atol=1e-5)


def test_a_cell_needs_half_its_label():
    # Cells of 2×2: the left one has 2 of 4 labelled pixels and serves, the right one 1 of 4.
    index = jnp.array([[[0, IGNORE, 1, IGNORE], [0, IGNORE, IGNORE, IGNORE]]])
    logits = jnp.array([[[[2.0, 0.0], [0.0, 2.0]]]])
    inputs = Inputs(
        labels_from_index(index, 2, IGNORE),
        Outputs(logits, jnp.ones((1, 1, 2, 3))),
        jnp.zeros((1, 2, 4, 3)),
    )
    q = q_of(inputs, exclude_self=False)
    left = jax.nn.softmax(logits[0, 0, 0])
    # The right pixel lies nearest to a cell without a source; what reaches it comes from the left
    # cell.
    np.testing.assert_allclose(q[0, 0, 0], left, atol=1e-6)
    np.testing.assert_allclose(q[0, 0, 2], left, atol=1e-6)
    # With the self-pair excluded nobody serves the left cell either, so the labels stay.
    np.testing.assert_array_equal(q_of(inputs), inputs.labels.probs)


def test_bilinear_upsampling_is_normalised_by_coverage():
    inputs = make_inputs(seed=14, size=(8, 8), stride=4, ignored=0, batch=1)
    q = q_of(inputs)
    np.testing.assert_allclose(q.sum(-1), 1, atol=1e-6)
    # One of four cells without label: the others still sum to 1 wherever one of them reaches.
    index = np.array(inputs.labels.probs.argmax(-1))
    index[0, :4, :4] = IGNORE
    inputs = inputs._replace(labels=labels_from_index(jnp.asarray(index), 3, IGNORE))
    q = np.asarray(q_of(inputs))
    np.testing.assert_allclose(q.sum(-1)[index != IGNORE], 1, atol=1e-6)


def test_nearest_same_class_upsampling_keeps_classes_apart():
    # Left cell class 0, right cell class 1, each its own only source: q = p, without blending at
    # the border.
    index = jnp.array([[[0] * 4 + [1] * 4] * 4])
    logits = jnp.array([[[[4.0, 0.0], [0.0, 4.0]]]])
    inputs = Inputs(
        labels_from_index(index, 2, IGNORE),
        Outputs(logits, jnp.ones((1, 1, 2, 3))),
        jnp.zeros((1, 4, 8, 3)),
    )
    q = q_of(inputs, affinity="identity", upsample="nearest_same_class")
    np.testing.assert_allclose(
        q, jax.nn.softmax(logits)[:, :, [0] * 4 + [1] * 4].repeat(4, 1), atol=1e-6
    )
    blended = q_of(inputs, affinity="identity", upsample="bilinear")
    assert float(jnp.abs(blended - q).max()) > 0.1


def test_nearest_same_class_falls_back_to_bilinear():
    index = jnp.full((1, 4, 8), 2)  # no cell is of class 2 once the cells' argmax is 2 everywhere
    inputs = make_inputs(seed=15, size=(4, 8), stride=4, ignored=0, batch=1)
    inputs = inputs._replace(labels=labels_from_index(index.at[0, 0, 0].set(1), 3, IGNORE))
    nearest = q_of(inputs, upsample="nearest_same_class")
    np.testing.assert_allclose(nearest[0, 0, 0], q_of(inputs)[0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("stride", [0, 1, 2, 8])
def test_sizes_that_do_not_divide(stride):
    size = (5, 7) if stride == 8 else (9, 11)
    inputs = make_inputs(seed=16, size=size, stride=4)
    for upsample in ("bilinear", "nearest_same_class"):
        soft = soft_labels(inputs, stride=stride, upsample=upsample)
        np.testing.assert_allclose(soft.probs.sum(-1), inputs.labels.mass, atol=1e-6)


@pytest.mark.parametrize("stride", [12, 28, 36])
@pytest.mark.parametrize("upsample", ["bilinear", "nearest_same_class"])
def test_cells_of_any_stride_lie_where_their_pixels_are(stride, upsample):
    # Class 1 begins in the middle of a cell's column; half a cell to both sides q is pure.
    size, edge = (72, 72), stride * (36 // stride)
    index = jnp.broadcast_to(jnp.arange(72) >= edge, (1, *size)).astype(int)
    logits = 20 * jax.nn.one_hot(index[:, ::4, ::4], 2)
    inputs = Inputs(
        labels_from_index(index, 2, IGNORE),
        Outputs(logits, jnp.ones((1, 18, 18, 3))),
        jnp.zeros((1, *size, 3)),
    )
    q = q_of(inputs, affinity="identity", stride=stride, upsample=upsample)[0, 36, :, 1]
    assert (q[: edge - stride // 2] < 0.01).all()
    assert (q[edge + stride // 2 :] > 0.99).all()
    crossing = int(jnp.argmax(q > 0.5))
    assert crossing == edge


def test_an_image_without_labels_stays_empty():
    inputs = make_inputs(ignored=1.1)
    for options in itertools.product(("exp_cosine", "identity"), ("none", "image", "dataset")):
        soft = soft_labels(inputs, affinity=options[0], prior=options[1], centre=True)
        assert (soft.probs == 0).all()


def test_a_stride_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"stride.*4.*found 3"):
        soft_labels(make_inputs(size=(8, 8), stride=4), stride=3)

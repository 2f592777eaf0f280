import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pals_jax import losses


def draw(seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    probs = jnp.asarray(rng.dirichlet(np.ones(5), (2, 3, 4)), jnp.float32)
    return logits, probs


def test_soft_cross_entropy_by_hand_and_by_optax():
    logits = jnp.log(jnp.array([[[[0.7, 0.2, 0.1]]]]))
    found = losses.soft_cross_entropy(logits, jnp.array([[[[0.5, 0.25, 0.0]]]]))
    np.testing.assert_allclose(found, -(0.5 * np.log(0.7) + 0.25 * np.log(0.2)), rtol=1e-6)
    logits, probs = draw()
    np.testing.assert_allclose(
        losses.soft_cross_entropy(logits, probs),
        optax.softmax_cross_entropy(logits, probs),
        rtol=1e-5,
    )


def test_cross_entropy_of_bfloat16_logits_is_float32():
    logits, probs = draw()
    assert losses.soft_cross_entropy(logits.astype(jnp.bfloat16), probs).dtype == jnp.float32


def test_kl_divergence_by_hand_by_optax_and_with_zeros():
    logits = jnp.log(jnp.array([[[[0.5, 0.25, 0.25]]]]))
    found = losses.kl_divergence(jnp.array([[[[0.5, 0.5, 0.0]]]]), logits)
    np.testing.assert_allclose(found, 0.5 * np.log(2), rtol=1e-6)
    logits, probs = draw()
    expected = optax.losses.kl_divergence(jax.nn.log_softmax(logits), probs)
    np.testing.assert_allclose(losses.kl_divergence(probs, logits), expected, atol=1e-6)
    np.testing.assert_allclose(losses.kl_divergence(jax.nn.softmax(logits), logits), 0, atol=1e-6)


def test_kl_divergence_and_cross_entropy_have_one_gradient():
    logits, probs = draw()
    by_kl = jax.grad(lambda z: losses.kl_divergence(probs, z).sum())(logits)
    by_ce = jax.grad(lambda z: losses.soft_cross_entropy(z, probs).sum())(logits)
    np.testing.assert_allclose(by_kl, by_ce, atol=1e-6)


def test_a_class_that_is_ruled_out_costs_nothing_where_the_label_lacks_it():
    logits, probs = jnp.array([[[[0.0, -jnp.inf]]]]), jnp.array([[[[1.0, 0.0]]]])
    assert losses.soft_cross_entropy(logits, probs) == 0
    assert losses.kl_divergence(probs, logits) == 0
    gradient = jax.grad(lambda z: losses.soft_cross_entropy(z, probs).sum())(logits)
    np.testing.assert_array_equal(gradient, 0)
    assert losses.soft_cross_entropy(logits, 1 - probs) == jnp.inf


def test_gradient_of_the_labels():
    logits, probs = draw()
    probs = probs.at[..., 0].set(0)
    found = jax.grad(lambda y: losses.soft_cross_entropy(logits, y).sum())(probs)
    np.testing.assert_allclose(found, -jax.nn.log_softmax(logits), rtol=1e-6)
    found = jax.grad(lambda y: losses.kl_divergence(y, logits).sum())(probs)
    own = jnp.where(probs > 0, 1 + jnp.log(jnp.where(probs > 0, probs, 1)), 0)
    np.testing.assert_allclose(found, own - jax.nn.log_softmax(logits), atol=1e-5)


def test_kl_divergence_of_bfloat16_labels_is_float32():
    logits, probs = draw()
    probs = probs.astype(jnp.bfloat16)
    expected = losses.kl_divergence(probs.astype(jnp.float32), logits)
    np.testing.assert_allclose(losses.kl_divergence(probs, logits), expected, atol=1e-7)


def test_labels_that_are_nan_make_the_loss_nan():
    logits, probs = draw()
    assert jnp.isnan(losses.soft_cross_entropy(logits, probs * jnp.nan)).all()
    assert jnp.isnan(losses.kl_divergence(probs * jnp.nan, logits)).all()


def test_masked_mean():
    values, mask = jnp.array([[1.0, 2.0, jnp.nan]]), jnp.array([[1.0, 0.5, 0.0]])
    assert float(losses.masked_mean(values, mask)) == pytest.approx(2 / 1.5)
    assert float(losses.masked_mean(values, jnp.zeros((1, 3)))) == 0
    gradient = jax.grad(losses.masked_mean)(values, mask)
    np.testing.assert_allclose(gradient, [[1 / 1.5, 0.5 / 1.5, 0]], rtol=1e-6)
    nothing = jax.grad(losses.masked_mean)(values, jnp.zeros((1, 3)))
    np.testing.assert_array_equal(nothing, [[0, 0, 0]])


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"logits and probs.*\(1, 1, 2, 3\).*\(1, 1, 2, 4\)"):
        losses.soft_cross_entropy(jnp.zeros((1, 1, 2, 3)), jnp.zeros((1, 1, 2, 4)))
    with pytest.raises(ValueError, match="values must be an array, found list"):
        losses.masked_mean([1.0], jnp.ones(1))
    with pytest.raises(ValueError, match="values and mask"):
        losses.masked_mean(jnp.zeros(3), jnp.zeros(4))


# --- Pair-wise similarity ------------------------------------------------------------------------


def pairwise_in_float64(teacher, student, mask):
    """The definition with its N×N matrices, and the gradients by hand."""
    teacher, student, mask = (np.asarray(x, np.float64) for x in (teacher, student, mask))
    gradients, values = [np.zeros_like(teacher), np.zeros_like(student)], []
    for b in range(len(mask)):
        if mask[b].sum() == 0:
            continue
        t, s = (
            mask[b][:, None] * x / np.linalg.norm(x, axis=1, keepdims=True)
            for x in (teacher[b], student[b])
        )
        difference = t @ t.T - s @ s.T
        values.append((difference**2).sum() / mask[b].sum() ** 2)
        for gradient, features, rows, factor in zip(
            gradients, (teacher, student), (t, s), (4, -4), strict=True
        ):
            of_rows = factor * difference @ rows / mask[b].sum() ** 2
            norm = np.linalg.norm(features[b], axis=1, keepdims=True)
            unit = features[b] / norm
            of_unit = mask[b][:, None] * of_rows
            gradient[b] = (of_unit - unit * (of_unit * unit).sum(1, keepdims=True)) / norm
    return np.mean(values), [gradient / len(values) for gradient in gradients]


def draw_pair(distance, seed=0, width=24, student_width=24, mean=0.0):
    rng = np.random.default_rng(seed)
    teacher = rng.normal(size=(2, 50, width)) + mean * rng.random(width)
    student = np.zeros((2, 50, student_width))
    shared = min(width, student_width)
    student[..., :shared] = teacher[..., :shared]
    student += distance * rng.normal(size=student.shape)
    mask = (rng.random((2, 50)) < 0.8).astype(np.float32)
    return teacher.astype(np.float32), student.astype(np.float32), mask


@pytest.mark.parametrize("mean", [0, 5])  # features around one mean have cosines near 1
@pytest.mark.parametrize("scale", [1, 1e-15, 1e15])
@pytest.mark.parametrize("distance", [1, 1e-1, 1e-2, 1e-3, 1e-4])
def test_pairwise_similarity_agrees_with_all_pairs_in_float64(distance, scale, mean):
    teacher, student, mask = draw_pair(distance, mean=mean)
    teacher, student = scale * teacher, scale * student
    expected, expected_gradients = pairwise_in_float64(teacher, student, mask)
    value, gradients = jax.jit(jax.value_and_grad(losses.pairwise_similarity_loss, argnums=(0, 1)))(
        teacher, student, mask
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        error = np.linalg.norm(scale * np.asarray(gradient, np.float64) - scale * expected_gradient)
        assert error <= 1e-5 * np.linalg.norm(scale * expected_gradient)


@pytest.mark.parametrize("mean", [0, 5])
@pytest.mark.parametrize("scale", [2, 1e3, "of each pixel"])
@pytest.mark.parametrize("distance", [1, 1e-1, 1e-2, 1e-3])
def test_pairwise_similarity_does_not_cancel_between_features_of_different_norms(
    distance, scale, mean
):
    teacher, student, mask = draw_pair(distance, mean=mean)
    if scale == "of each pixel":
        scale = np.random.default_rng(1).uniform(0.1, 10, (2, 50, 1))
    student = (scale * student).astype(np.float32)
    expected, expected_gradients = pairwise_in_float64(teacher, student, mask)
    value, gradients = jax.jit(jax.value_and_grad(losses.pairwise_similarity_loss, argnums=(0, 1)))(
        teacher, student, mask
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        error = np.linalg.norm(gradient - expected_gradient)
        assert error <= 1e-5 * np.linalg.norm(expected_gradient)


def test_pairwise_similarity_has_a_second_derivative():
    teacher, student, mask = (x[:1, :6] for x in draw_pair(0.5, width=4, student_width=4))

    def plain(student):
        t, s = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (teacher, student))
        difference = (t @ t.mT - s @ s.mT) * mask[:, :, None] * mask[:, None]
        return jnp.sum(difference**2) / mask.sum() ** 2

    def ours(student):
        return losses.pairwise_similarity_loss(teacher, student, mask)

    found, expected = (jax.jacrev(jax.grad(loss))(student) for loss in (ours, plain))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("mean", [0, 5, 20])  # which a narrower student lacks a part of
@pytest.mark.parametrize("distance", [1, 1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize(("width", "student_width"), [(24, 10), (10, 24), (24, 23)])
def test_pairwise_similarity_of_different_widths(width, student_width, distance, mean):
    teacher, student, mask = draw_pair(
        distance, width=width, student_width=student_width, mean=mean
    )
    expected, expected_gradients = pairwise_in_float64(teacher, student, mask)
    value, gradients = jax.value_and_grad(losses.pairwise_similarity_loss, argnums=(0, 1))(
        teacher, student, mask
    )
    assert float(value) == pytest.approx(expected, rel=1e-4)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        error = np.linalg.norm(gradient - expected_gradient)
        assert error <= 1e-4 * np.linalg.norm(expected_gradient)


def test_a_mask_that_is_nan_is_noticed():
    teacher, student, mask = draw_pair(0.1)
    mask[0, 3] = np.nan
    assert np.isnan(losses.pairwise_similarity_loss(teacher, student, mask))
    assert np.isnan(losses.masked_mean(jnp.ones((2, 50)), jnp.asarray(mask)))


def test_pairwise_similarity_by_hand():
    # Cosines of the teacher 1, of the student 0.6: twice 0.4², over 2².
    teacher, student = np.array([[[2.0, 0], [1, 0]]]), np.array([[[3.0, 0], [3, 4]]])
    value = losses.pairwise_similarity_loss(
        jnp.asarray(teacher), jnp.asarray(student), jnp.ones((1, 2))
    )
    assert float(value) == pytest.approx(2 * 0.16 / 4, rel=1e-6)


def test_pairwise_similarity_skips_masked_pixels_and_images_without_any():
    teacher, student, mask = draw_pair(0.1)
    mask[1] = 0
    teacher[mask == 0], student[mask == 0] = np.nan, np.inf
    value, gradients = jax.value_and_grad(losses.pairwise_similarity_loss, argnums=(0, 1))(
        teacher, student, jnp.asarray(mask > 0)
    )
    kept = mask[0] > 0
    alone = losses.pairwise_similarity_loss(
        teacher[:1, kept], student[:1, kept], jnp.ones((1, kept.sum()))
    )
    assert float(value) == pytest.approx(float(alone), rel=1e-5)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient)[mask == 0] == 0).all()
    assert float(losses.pairwise_similarity_loss(teacher, student, jnp.zeros((2, 50)))) == 0


@pytest.mark.parametrize("distance", [1e-1, 1e-3])
def test_zero_features_of_the_student_leave_its_other_gradients_exact(distance):
    teacher, student, mask = draw_pair(distance, mean=20)
    mask[:] = 1
    student[:, ::7] = 0
    gradient = jax.grad(losses.pairwise_similarity_loss, argnums=1)(teacher, student, mask)
    # Pairs with a zero feature do not depend on the student's others.
    rest = [i for i in range(50) if i % 7]
    _, (_, expected) = pairwise_in_float64(teacher[:, rest], student[:, rest], mask[:, rest])
    expected *= (len(rest) / 50) ** 2
    error = np.linalg.norm(gradient[:, rest] - expected)
    assert error <= 1e-4 * np.linalg.norm(expected)


def test_pairwise_similarity_of_equal_and_of_zero_features():
    teacher, _, mask = draw_pair(0)
    assert float(losses.pairwise_similarity_loss(teacher, 3 * teacher, mask)) < 1e-10
    student = np.array(teacher)
    student[:, ::3] = 0
    unit = [
        x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9) * mask[..., None]
        for x in (teacher, student)
    ]
    squares = (unit[0] @ unit[0].mT - unit[1] @ unit[1].mT) ** 2
    expected = np.mean(squares.sum((1, 2)) / mask.sum(1) ** 2)
    value, gradient = jax.value_and_grad(losses.pairwise_similarity_loss, argnums=1)(
        teacher, student, mask
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(gradient).all()


def test_pairwise_similarity_of_one_geometry_in_two_bases():
    rng = np.random.default_rng(7)
    teacher = rng.normal(size=(1, 200, 16)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    student = (teacher @ rotation).astype(np.float32)
    value = losses.pairwise_similarity_loss(teacher, student, np.ones((1, 200), bool))
    assert abs(float(value)) < 3e-8


def test_pairwise_similarity_names_what_does_not_fit():
    teacher, student, mask = draw_pair(0.1)
    with pytest.raises(ValueError, match=r"student .*\(2, 50, 24\).*\(2, 49, 24\)"):
        losses.pairwise_similarity_loss(teacher, student[:, 1:], mask)
    with pytest.raises(ValueError, match="mask must be bool or floats, found complex64"):
        losses.pairwise_similarity_loss(teacher, teacher, jnp.ones((2, 50), jnp.complex64))
    with pytest.raises(ValueError, match="mask must be an array, found list"):
        losses.pairwise_similarity_loss(teacher, teacher, [1.0])
    with pytest.raises(ValueError, match=r"mask .*\(2, 50, 24\).*\(1, 50\)"):
        losses.pairwise_similarity_loss(teacher, student, mask[:1])
    with pytest.raises(ValueError, match=r"mask .*\(2, 50, 1\)"):
        losses.pairwise_similarity_loss(teacher, student, mask[..., None])
    with pytest.raises(ValueError, match=r"teacher must be floats .*\(50, 24\)"):
        losses.pairwise_similarity_loss(teacher[0], student[0], mask[0])
    with pytest.raises(ValueError, match=r"student must be floats .*int32"):
        losses.pairwise_similarity_loss(teacher, student.astype(np.int32), mask)

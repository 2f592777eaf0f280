import jax
import jax.numpy as jnp
import pytest

from pals_jax import optimizer
from pals_jax.config import default_config


def test_the_learning_rate_falls_or_stays():
    config = default_config().optimizer
    config.update(learning_rate=0.1, end_learning_rate=0.02, power=2.0)
    schedule = optimizer.poly_schedule(config, total_steps=10)
    # 0.08 (1 - t / 10)² + 0.02
    found = [float(schedule(step)) for step in (0, 5, 10)]
    assert found == pytest.approx([0.1, 0.04, 0.02])
    config.learning_rate = 0.01
    schedule = optimizer.poly_schedule(config, total_steps=10)
    assert float(schedule(0)) == float(schedule(10)) == pytest.approx(0.01)


def test_two_steps_by_hand():
    config = default_config().optimizer
    config.update(
        learning_rate=0.1,
        end_learning_rate=0.0,
        power=1.0,
        momentum=0.5,
        weight_decay=0.01,
        head_multiplier=3.0,
    )
    created = optimizer.create(config, total_steps=10)
    params = {"student": {"backbone": {"w": jnp.array(2.0)}, "decoder": {"w": jnp.array(2.0)}}}
    gradients = jax.tree.map(jnp.ones_like, params)
    state = created.init(params)
    first, state = created.update(gradients, state, params)
    # Gradient with decay: 1 + 0.01 · 2; learning rate 0.1, three times that outside the backbone.
    assert float(first["student"]["backbone"]["w"]) == pytest.approx(-0.1 * 1.02)
    assert float(first["student"]["decoder"]["w"]) == pytest.approx(-0.3 * 1.02)
    second, _ = created.update(gradients, state, params)
    # Momentum: 1.02 + 0.5 · 1.02; learning rate 0.1 · (1 - 1/10).
    assert float(second["student"]["backbone"]["w"]) == pytest.approx(-0.09 * 1.53)
    assert float(second["student"]["decoder"]["w"]) == pytest.approx(-0.27 * 1.53)

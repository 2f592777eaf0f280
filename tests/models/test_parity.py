from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import parity_case
import pytest

from pals_jax import models


def test_every_stage_is_what_pytorch_once_computed():
    """Written by `torch_reference.py`; PyTorch itself is not needed."""
    model = parity_case.build("deeplabv3plus_resnet18", 16)
    _, *shapes = models.split(model)
    images = parity_case.images(*parity_case.FROZEN_IMAGES)
    ours = parity_case.stages(model, *parity_case.fill(*shapes), images)
    with np.load(Path(__file__).with_name("torch_parity.npz")) as frozen:
        parity_case.assert_close(ours, dict(frozen))


@pytest.mark.parametrize(("backbone", "output_stride"), [("resnet18", 8), ("resnet50", 16)])
def test_every_stage_is_what_pytorch_computes(backbone, output_stride):
    torch_reference = pytest.importorskip("torch_reference", reason="needs PyTorch")
    model = parity_case.build(f"deeplabv3plus_{backbone}", output_stride)
    _, *shapes = models.split(model)
    filled = parity_case.fill(*shapes)
    images = parity_case.images(1, 65, 99)
    theirs = torch_reference.stages(
        torch_reference.load(backbone, output_stride, *filled).eval(), images
    )
    theirs = {name: output.detach() for name, output in theirs.items()}
    parity_case.assert_close(parity_case.stages(model, *filled, images), theirs)


def test_a_training_step_is_pytorchs():
    """Outputs, gradients and running means; PyTorch's running variances are the unbiased ones."""
    torch_reference = pytest.importorskip("torch_reference", reason="needs PyTorch")
    apply, *shapes = models.split(parity_case.build("deeplabv3plus_resnet18", 16))
    params, statistics = parity_case.fill(*shapes)
    images = parity_case.images(3, 65, 99)

    @jax.jit
    def step(params, images):
        def loss(params):
            outputs, new = apply(params, statistics, images, train=True)
            total = jnp.mean(outputs.logits**2) + jnp.mean(outputs.auxiliary**2)
            return total, (outputs._asdict(), new)

        return jax.grad(loss, has_aux=True)(params)

    gradients, (outputs, new) = step(params, images)
    network = torch_reference.load("resnet18", 16, params, statistics).train()
    theirs = torch_reference.stages(network, images)
    ((theirs["logits"] ** 2).mean() + (theirs["auxiliary"] ** 2).mean()).backward()

    parity_case.assert_close(outputs, {name: theirs[name].detach() for name in outputs})
    ours = torch_reference.to_torch(gradients, {})
    parity_case.assert_close(ours, {name: p.grad for name, p in network.named_parameters()})
    means = {name: a for name, a in torch_reference.to_torch({}, new).items() if "mean" in name}
    state = network.state_dict()
    parity_case.assert_close(means, {name: state[name] for name in means})

"""Times the affinity aggregation against a product of the features that writes nothing of size N².

The reference of each size is f̂f̂ᵀ in blocks of 1024 rows, each reduced to its row maximum: what any
all-pairs method must at least compute. Every case is checked against float64 on some rows before it
is timed.

    python -m benchmarks.affinity [--quick] [--sizes 4096 …] [--repeats=10] [--output=rows.jsonl]
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from pals_jax import affinity

DIMENSION, CLASSES = 256, 19
BLOCK = 1024
# Multiples of BLOCK.
SIZES = (1024, 2048, 4096, 9216, 16384, 65536, 262144)
QUICK_SIZES = (1024, 4096)
REFERENCE = "row maximum of f·fᵀ"
# τ, what a case adds to the options of `aggregate`, and up to which N it runs.
CASES = {
    "dense": ({"implementation": "dense"}, 4096),
    "tiled": ({"implementation": "tiled"}, 65536),
    "tiled, same class": ({"implementation": "tiled", "labels": True}, 9216),
    "tiled, τ = 0.01": ({"implementation": "tiled", "temperature": 0.01}, 9216),
    "tiled, τ = 0.005": ({"implementation": "tiled", "temperature": 0.005}, 9216),
    "tiled, relu_cosine": ({"implementation": "tiled", "similarity": "relu_cosine"}, 9216),
    "linear": ({"implementation": "linear", "similarity": "linear_cosine"}, 262144),
    "linear, same class": (
        {"implementation": "linear", "similarity": "linear_cosine", "labels": True},
        262144,
    ),
}


def inputs(pixels: int):
    """Features of classes around one mean, as behind a ReLU, with labels and probabilities.

    Values and features go by the class, so that a wrong affinity shows in the result at any size.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, pixels)
    classes = rng.normal(size=(CLASSES, DIMENSION))
    features = rng.normal(size=(pixels, DIMENSION)) + classes[labels] + rng.normal(size=DIMENSION)
    values = 0.5 * np.eye(CLASSES)[labels] + 0.5 * rng.dirichlet(np.ones(CLASSES), size=pixels)
    return (
        jnp.asarray(features[None], jnp.float32),
        jnp.asarray(values[None], jnp.float32),
        jnp.asarray(labels[None], jnp.int32),
    )


def row_maximum(features):
    """The reference: the largest cosine of each pixel, itself included."""
    unit = affinity.unit_features(features)[0]

    def of_block(rows):
        return jnp.max(jnp.dot(rows, unit.T, precision=jax.lax.Precision.HIGHEST), axis=1)

    return jax.lax.map(of_block, unit.reshape(-1, min(BLOCK, len(unit)), DIMENSION))


def check(found, features, values, labels, rows, **options) -> float:
    """Largest difference of some rows from the definition in float64."""
    similarity = options.get("similarity", "exp_cosine")
    unit = np.asarray(features[0], np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit[rows] @ unit.T
    if similarity == "exp_cosine":
        weight = np.exp((cosine - 1) / options.get("temperature", 0.1))
    elif similarity == "relu_cosine":
        weight = np.maximum(cosine, 0)
    else:
        weight = (1 + cosine) / 2
    if labels is not None:
        weight *= np.asarray(labels[0])[rows, None] == np.asarray(labels[0])[None]
    weight[np.arange(len(rows)), rows] = 0
    expected = weight @ np.asarray(values[0], np.float64) / weight.sum(1, keepdims=True)
    return float(np.abs(expected - np.asarray(found[0][0])[rows]).max())


def run(pixels: int, repeats: int) -> list[dict]:
    """Measures all cases of one size."""
    features, values, labels = inputs(pixels)
    rows = np.random.default_rng(1).integers(0, pixels, 32)
    cases, errors = [], {}
    if pixels <= 65536:
        case, maximum = harness.compiled(REFERENCE, row_maximum, features)
        assert np.allclose(maximum, 1, atol=1e-5)  # every pixel is most alike to itself
        cases.append(case)
    for name, (options, most) in CASES.items():
        if pixels > most:
            continue
        options = dict(options)
        given = labels if options.pop("labels", False) else None

        def aggregate(features, values, given, options=options):
            return affinity.aggregate(features, values, labels=given, **options)

        case, found = harness.compiled(name, aggregate, features, values, given)
        errors[name] = check(found, features, values, given, rows, **options)
        most = 1e-5 if options.get("temperature", 1) >= 0.05 else 3e-5
        assert errors[name] <= most, (name, pixels, errors[name])
        cases.append(case)
    seconds = harness.measure(cases, repeats)
    return [
        harness.row({"n": pixels}, case, cases[0].name, seconds) | {"error": errors.get(case.name)}
        for case in cases
    ]


def main() -> None:
    """Measures and reports."""
    parser = harness.arguments(__doc__, "small sizes")
    parser.add_argument("--sizes", type=int, nargs="*", help=f"pixels, multiples of {BLOCK}")
    given = parser.parse_args()
    sizes = given.sizes or (QUICK_SIZES if given.quick else SIZES)
    if any(pixels < BLOCK or pixels % BLOCK for pixels in sizes):
        parser.error(f"--sizes must be multiples of {BLOCK}, found {sizes}")
    for pixels in sizes:
        rows = run(pixels, given.repeats or (3 if given.quick else 10))
        harness.write("affinity", rows, given.output)


if __name__ == "__main__":
    main()

"""The affinity contract once more: float64 NumPy, row by row, from its definition."""

import numpy as np


def aggregate(
    features,
    values,
    *,
    similarity="exp_cosine",
    temperature=0.1,
    power=1.0,
    valid=None,
    labels=None,
    correct=None,
    exclude_self=True,
):
    features, values = np.asarray(features, np.float64), np.asarray(values, np.float64)
    batch, pixels, _ = features.shape
    valid = np.ones((batch, pixels), bool) if valid is None else np.asarray(valid)
    source = valid if correct is None else valid & np.asarray(correct)
    aggregated = np.zeros((batch, pixels, values.shape[-1]))
    has_source = np.zeros((batch, pixels), bool)
    for b in range(batch):
        f = np.where(valid[b][:, None], features[b], 0)
        p = np.where(valid[b][:, None], values[b], 0)
        norm = np.linalg.norm(f, axis=1, keepdims=True)
        f = f / np.where(norm > 0, norm, 1)
        for u in range(pixels):
            if not valid[b, u]:
                continue
            c = f @ f[u]
            with np.errstate(divide="ignore"):
                log_kernel = {
                    "exp_cosine": (c - 1) / temperature,
                    "linear_cosine": np.log(np.maximum((1 + c) / 2, 0)),
                    "relu_cosine": power * np.log(np.maximum(c, 0)),
                    "uniform": np.zeros(pixels),
                }[similarity]
            allowed = source[b].copy()
            if labels is not None:
                allowed &= np.asarray(labels)[b] == np.asarray(labels)[b, u]
            if exclude_self:
                allowed[u] = False
            log_kernel = np.where(allowed, log_kernel, -np.inf)
            if np.isneginf(log_kernel.max()):
                continue
            weight = np.exp(log_kernel - log_kernel.max())
            aggregated[b, u] = weight @ p / weight.sum()
            has_source[b, u] = True
    return aggregated, has_source

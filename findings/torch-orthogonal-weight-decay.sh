#!/usr/bin/env bash
# torch.nn.utils.parametrizations.orthogonal on a weight that is not square, trained with weight decay: after the first
# step of the optimizer the orthogonal matrix is a matrix of zeros, and stays one.
#
# For shapes that are not square the parametrization takes the Householder map by default. It keeps the signs of the
# columns, +1 and -1, on the diagonal of the tensor that is trained, and multiplies the columns by that diagonal read
# as whole numbers. The diagonal has no gradient, but weight decay shrinks it: 0.9999 read as a whole number is 0.
# Square weights take the matrix exponential by default, which has no such signs, and stay orthogonal.
#
# Expected: a matrix with orthonormal columns, whatever the optimizer does with what it is made from.
# Seen with torch 2.14.1 (Python 3.11, CPU): SGD and AdamW with weight decay give 0.0; without it, and for square weights
# or with orthogonal_map="matrix_exp", the norm stays the square root of the number of columns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet torch==2.14.1 numpy==2.4.6
cat > seen.py <<'PY'
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal


def norm_after_one_step(rows, columns, optimizer, **options):
    torch.manual_seed(0)
    layer = orthogonal(nn.Linear(columns, rows, bias=False), **options)
    steps = optimizer(layer.parameters())
    layer(torch.randn(4, columns)).square().mean().backward()
    steps.step()
    return layer.weight.detach().norm().item()


def sgd(decay):
    return lambda parameters: torch.optim.SGD(parameters, lr=0.05, weight_decay=decay)


def adamw(decay):
    return lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=decay)


print("torch", torch.__version__)
whole = 9**0.5
found = {
    "16x9, SGD, no decay": norm_after_one_step(16, 9, sgd(0.0)),
    "16x9, SGD, decay 5e-4": norm_after_one_step(16, 9, sgd(5e-4)),
    "16x9, AdamW, decay 0.05": norm_after_one_step(16, 9, adamw(0.05)),
    "9x16, AdamW, decay 0.05": norm_after_one_step(9, 16, adamw(0.05)),
    "9x9, AdamW, decay 0.05": norm_after_one_step(9, 9, adamw(0.05)),
    "16x9, AdamW, decay 0.05, matrix_exp": norm_after_one_step(16, 9, adamw(0.05), orthogonal_map="matrix_exp"),
}
for case, norm in found.items():
    print(f"{case}: norm {norm:.4f}")
zero = [case for case, norm in found.items() if norm == 0.0]
kept = [case for case, norm in found.items() if abs(norm - whole) < 1e-3]
assert zero == ["16x9, SGD, decay 5e-4", "16x9, AdamW, decay 0.05", "9x16, AdamW, decay 0.05"], zero
assert len(kept) == 3, kept
PY
venv/bin/python seen.py
echo "as described"

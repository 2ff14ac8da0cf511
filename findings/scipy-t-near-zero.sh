#!/usr/bin/env bash
# scipy: near 0, Student's t distribution with one degree of freedom is much less exact than with two.
#
# Seen with scipy 1.17.1 on Python 3.11 (x86-64): scipy.special.stdtr(1, t), and scipy.stats.t.cdf with it, is 0.5 at
# t = 1e-9, where the closed form 1/2 + atan(t)/pi is 0.5 + 3.18e-10, and 0.5 + 4.74e-9 at t = 1e-8, where it is
# 0.5 + 3.18e-9: half as much again. With 2 degrees of freedom, stdtr agrees with 1/2 + t / (2 sqrt(2 + t^2)) to 1e-15.
# A two-sided p value of two paired runs that hardly differ is so off by some 1e-9. kdzoo's own p values
# (kdzoo/board/intervals.py) are tested against the closed forms.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
"$place/venv/bin/python" - <<'PYTHON'
import math

import scipy
from scipy.special import stdtr
from scipy.stats import t as student

print("scipy", scipy.__version__)
errors = {}
for freedom, exact in ((1, lambda t: math.atan(t) / math.pi), (2, lambda t: t / (2 * math.sqrt(2 + t * t)))):
    for t in (1e-9, 1e-8, 1e-7):
        seen = float(stdtr(freedom, t)) - 0.5
        assert float(student.cdf(t, freedom)) - 0.5 == seen
        errors[freedom, t] = abs(seen - exact(t))
        print(f"{freedom} degrees of freedom, t = {t:g}: {seen:.4g} above one half, exactly {exact(t):.4g}")
assert errors[1, 1e-9] > 3e-10
assert errors[1, 1e-8] > 1e-9
assert max(errors[2, t] for t in (1e-9, 1e-8, 1e-7)) < 1e-15
PYTHON

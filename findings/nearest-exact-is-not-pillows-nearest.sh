#!/usr/bin/env bash
# torch's F.interpolate(mode="nearest-exact") is documented to match Pillow's NEAREST, and picks other pixels wherever
# the centre of a new pixel falls on the border between two old ones.
#
# Seen with torch 2.14.1, numpy 2.4.6 and Pillow 13.0.0 on a CPU, columns that differ: 32 to 48 pixels 5 of 48, 100 to 75 pixels 10
# of 75, 32 to 25 pixels 1 of 25 (torch takes the right one of the two, Pillow the left one); 32 to 64 and 224 to 256
# none. mode="nearest" differs far more: 11, 40, 15, 0 and 96. A network that was trained on images resized by Pillow
# sees slightly other ones where a tensor is resized; kdzoo says which interpolation it uses (docs/models.md).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6 pillow==13.0.0
"$place/venv/bin/python" - <<'PYTHON'
import numpy as np
import PIL
import torch
from PIL import Image


def differing(mode: str, old: int, new: int) -> list[tuple[int, int, int]]:
    """(new column, the old column that Pillow takes, the one that torch takes) wherever the two differ."""
    rows = np.arange(old, dtype=np.uint8)[None].repeat(2, axis=0)
    theirs = np.asarray(Image.fromarray(rows).resize((new, 2), Image.Resampling.NEAREST))[0]
    tensor = torch.from_numpy(rows)[None, None].float()
    ours = torch.nn.functional.interpolate(tensor, size=(2, new), mode=mode)[0, 0, 0].numpy()
    return [(n, int(a), int(b)) for n, (a, b) in enumerate(zip(theirs, ours)) if a != b]


print("torch", torch.__version__, "Pillow", PIL.__version__)
expected = {(32, 48): (5, 11), (100, 75): (10, 40), (32, 25): (1, 15), (32, 64): (0, 0), (224, 256): (0, 96)}
for (old, new), counts in expected.items():
    exact, plain = differing("nearest-exact", old, new), differing("nearest", old, new)
    print(f"{old} to {new}: nearest-exact {len(exact)}, nearest {len(plain)}", exact[:3])
    assert (len(exact), len(plain)) == counts
    assert all(torchs == pillows + 1 for _, pillows, torchs in exact)
PYTHON

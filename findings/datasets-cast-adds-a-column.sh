#!/usr/bin/env bash
# Hugging Face datasets: casting a column that is not there adds it, full of nulls.
#
# Seen with datasets 5.2.0 on Python 3.11: a set with the one column `label` has, after cast_column("image",
# Image(decode=False)), the columns `label` and `image`, and every image is None. timm 1.0.31's reader of hfds/ sets
# casts its input column in this way when it opens a set, so a misspelt or missing image column is met only when the
# first image is decoded. kdzoo looks at the columns before it opens the reader (kdzoo/data/columns.py).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import datasets

before = datasets.Dataset.from_dict({"label": [0, 1, 0]})
after = before.cast_column("image", datasets.Image(decode=False))
print("datasets", datasets.__version__)
print("before:", before.column_names)
print("after: ", after.column_names, list(after["image"]))
assert before.column_names == ["label"]
assert after.column_names == ["label", "image"]
assert list(after["image"]) == [None, None, None]
PYTHON

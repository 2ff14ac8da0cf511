"""The straightforward forms that ``benchmarks/zoo_steps.py`` measures the losses against."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def forms(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("forms")


def test_every_form_has_a_name_of_its_own(forms, monkeypatch):
    found = forms.all_forms()
    assert len({form.name for form in found}) == len(found)
    assert {"fcfd", "nst", "nst deep", "ls", "sort"} < {form.name for form in found}
    monkeypatch.setattr(import_module("forms.relation"), "FORMS", found[:1])
    with pytest.raises(ValueError, match=f"one name: {found[0].name}"):
        forms.all_forms()


@pytest.mark.parametrize("name", ["at", "fitnets", "rkd distance", "rkd angle"])
def test_it_has_the_value_of_the_loss(name, forms):
    (form,) = [each for each in forms.all_forms() if each.name == name]
    shape = (5, 3) if form.strategy == "rkd" else (3, 2, 4, 4)
    student = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(shape, dtype=torch.float64)
    values = [each(student, teacher) for each in (form.loss, form.straightforward)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in values))

"""What the tests of the losses on logits share: a naive form to agree with, and logits at which much overflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Loss = Callable[..., Tensor]


def softmax(row: Tensor, temperature: Any = 1.0) -> list[Tensor]:
    """The probabilities of one row, one by one."""
    powers = [torch.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def draw(samples: int, classes: int, scale: float = 2.0) -> dict[str, Tensor]:
    """Logits of both networks that ask for gradients, float64, and labels."""
    logits = {
        name: (scale * torch.randn(samples, classes, dtype=torch.float64)).requires_grad_()
        for name in ("student_logits", "teacher_logits")
    }
    return logits | {"target": torch.randint(classes, (samples,))}


def agrees(loss: Loss, naive: Loss, inputs: Mapping[str, Any], constant: tuple[str, ...] = ()) -> None:
    """Value, and gradient in every float tensor but those that are constants, are those of the naive form."""
    leaves = [x for key, x in inputs.items() if isinstance(x, Tensor) and x.requires_grad and key not in constant]
    found, expected = loss(**inputs), naive(**inputs)
    torch.testing.assert_close(found, expected)
    for own, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(own, theirs)


def stays_finite(loss: Callable[[Tensor, Tensor], Tensor], classes: int = 4) -> None:
    """Value, and gradient in both networks' logits, at certain, opposite, equal and shifted answers."""
    label = torch.zeros(1, classes)
    label[0, 0] = 1
    spread = torch.linspace(-1, 1, classes)[None]
    answers = [size * each for size in (50.0, 1e4) for each in (label, -label, spread, -spread)]
    answers += [spread, spread + 1e4]
    for student in answers:
        for teacher in answers:
            leaves = [each.clone().requires_grad_() for each in (student, teacher)]
            value = loss(*leaves)
            gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
            assert value.isfinite(), (student, teacher)
            assert all(gradient.isfinite().all() for gradient in gradients), (student, teacher)


def ignores_an_offset(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """In float32, 1e4 added to all logits of a network changes neither the value nor any gradient."""
    # Multiples of 1/64: the sums are exact, so that nothing is lost before the loss sees them.
    student, teacher = ((64 * 3 * torch.randn(5, 6)).round() / 64 for _ in range(2))
    wide = _value_and_gradients(loss, student.double(), teacher.double())
    for own, theirs in ((1e4, 0.0), (0.0, 1e4), (1e4, -1e4)):
        for exact, found in zip(wide, _value_and_gradients(loss, student + own, teacher + theirs), strict=True):
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def _value_and_gradients(loss: Callable[[Tensor, Tensor], Tensor], *logits: Tensor) -> list[Tensor]:
    leaves = [each.clone().requires_grad_() for each in logits]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def keeps_precision(loss: Loss, inputs: Mapping[str, Any]) -> None:
    """float32 and bfloat16 give float32, within what they can hold, and float64 stays."""
    exact = loss(**inputs)
    assert exact.dtype == torch.float64
    for dtype, rtol in ((torch.float32, 1e-5), (torch.bfloat16, 1e-5)):
        narrow = {
            name: x.detach().to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x
            for name, x in inputs.items()
        }
        wide = {
            name: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for name, x in narrow.items()
        }
        found = loss(**narrow)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), loss(**wide), rtol=rtol, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(**narrow), found, rtol=1e-6, atol=1e-7)

"""The loss of soft targets: what it equals where all tokens are known, its bounds, and its gradient."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from finetune.train import loss as losses  # noqa: E402
from finetune.train.soft_targets.divergence import MISSING, SoftTargets  # noqa: E402

V, H = 60, 8
TEMPERATURES = st.sampled_from([1.0, 2.0, 4.0])


def known(logits: Any, k: int, pad: int = 0) -> tuple[Any, Any]:
    """The k likeliest tokens of each line and their log-probabilities, with `pad` missing ones behind them."""
    top = logits.log_softmax(-1).topk(k)
    ids = torch.nn.functional.pad(top.indices, (0, pad), value=MISSING)
    return ids, torch.nn.functional.pad(top.values, (0, pad), value=-torch.inf)


def computed(
    student: Any,
    ids: Any,
    logprobs: Any,
    temperature: float = 1.0,
    weight: float = 1.0,
    at: Any = None,
) -> tuple[float, Any, float]:
    """(loss, its gradient at the student's logits, the divergence alone). States are logits here."""
    n = len(student)
    at = torch.arange(n) if at is None else at
    soft = SoftTargets(at, ids, logprobs, temperature, weight)
    states = student.clone().requires_grad_()
    found = losses.ChunkedLoss.apply(states, torch.eye(student.shape[1]), None, torch.zeros(n, dtype=torch.long), soft)  # type: ignore[no-untyped-call]
    found.backward()
    return found.item(), states.grad, soft.kl.item()


def whole_kl(student: Any, teacher: Any, t: float) -> tuple[float, Any]:
    z = student.double().clone().requires_grad_()
    theirs, ours = (teacher.double() / t).log_softmax(-1), (z / t).log_softmax(-1)
    kl = t**2 * (theirs.exp() * (theirs - ours)).sum()
    kl.backward()
    return kl.item(), z.grad


def by_autograd(student: Any, ids: Any, given: Any, t: float) -> Any:
    """The gradient of the sum in divergence.py, written down plainly for lines without missing tokens."""
    z = student.double().clone().requires_grad_()
    p, own = z.softmax(-1), z.gather(-1, ids)
    mass, ours = given.double().exp().sum(-1), p.gather(-1, ids).sum(-1)
    theirs, soft = (given.double() / t).log_softmax(-1), (own / t).log_softmax(-1)
    bernoulli = mass * (mass / ours).log() + (1 - mass) * ((1 - mass) / (1 - ours)).log()
    (bernoulli + mass * t**2 * (theirs.exp() * (theirs - soft)).sum(-1)).sum().backward()
    return z.grad


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), t=TEMPERATURES, scale=st.floats(0.1, 4))
def test_with_all_tokens_known_it_is_the_whole_kl(seed: int, t: float, scale: float) -> None:
    torch.manual_seed(seed)
    student, teacher = torch.randn(5, V) * scale, torch.randn(5, V) * scale
    value, gradient, _ = computed(student, *known(teacher, V), t)
    whole, expected = whole_kl(student, teacher, t)
    assert value == pytest.approx(whole, rel=1e-5, abs=1e-5)
    torch.testing.assert_close(gradient.double(), expected, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), t=TEMPERATURES, k=st.integers(1, V), pad=st.integers(0, 3))
def test_equal_distributions_have_no_loss_and_no_gradient(seed: int, t: float, k: int, pad: int) -> None:
    torch.manual_seed(seed)
    student = torch.randn(5, V) * 3
    value, gradient, _ = computed(student, *known(student, k, pad), t)
    assert value == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), t=TEMPERATURES, k=st.integers(1, V - 1))
def test_the_gradient_is_that_of_the_sum(seed: int, t: float, k: int) -> None:
    torch.manual_seed(seed)
    student, teacher = torch.randn(5, V) * 2, torch.randn(5, V) * 2
    ids, given_ = known(teacher, k)
    _, gradient, _ = computed(student, ids, given_, t)
    torch.testing.assert_close(gradient.double(), by_autograd(student, ids, given_, t), atol=1e-5, rtol=1e-4)
    _, padded, _ = computed(student, *known(teacher, k, 2), t)
    torch.testing.assert_close(gradient, padded)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_at_temperature_1_it_is_a_lower_bound_that_grows_with_the_known_tokens(seed: int) -> None:
    torch.manual_seed(seed)
    student, teacher = torch.randn(3, V) * 2, torch.randn(3, V) * 2
    values = [computed(student, *known(teacher, k))[0] for k in (1, 2, 5, 20, V - 1, V)]
    assert all(b >= a - 1e-4 for a, b in pairwise(values))
    assert values[-1] == pytest.approx(whole_kl(student, teacher, 1)[0], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    torch.manual_seed(0)
    given_ = [torch.randn(50, H), torch.randn(V, H), *([torch.randn(V)] if bias else [])]
    ids, logprobs = known(torch.randn(30, V), 7)
    at = torch.full((50,), MISSING)
    at[torch.randperm(50)[:30]] = torch.arange(30)
    made = []
    for chunk in (1, 7, 50):
        monkeypatch.setattr(losses, "CHUNK_BYTES", 4 * V * chunk)
        leaves = [x.clone().requires_grad_() for x in given_]
        soft = SoftTargets(at, ids, logprobs, 2.0, 0.9)
        b = leaves[2] if bias else None
        value = losses.ChunkedLoss.apply(leaves[0], leaves[1], b, torch.arange(50) % V, soft)  # type: ignore[no-untyped-call]
        value.backward()
        made.append([value.detach(), soft.kl, *(x.grad for x in leaves)])
    for other in made[1:]:
        for a, c in zip(made[0], other, strict=True):
            torch.testing.assert_close(a, c, atol=2e-5, rtol=1e-5)


def test_weight_0_and_tokens_without_targets_are_cross_entropy() -> None:
    torch.manual_seed(0)
    student = torch.randn(6, V)
    ids, logprobs = known(torch.randn(6, V), 5)
    nothing = torch.full((6,), MISSING)
    z = student.clone().requires_grad_()
    plain = torch.nn.functional.cross_entropy(z, torch.zeros(6, dtype=torch.long), reduction="sum")
    plain.backward()
    for value, gradient, kl in (
        computed(student, ids, logprobs, weight=0),
        computed(student, ids, logprobs, weight=0.9, at=nothing),
    ):
        assert value == pytest.approx(plain.item(), rel=1e-6)
        assert kl == 0
        torch.testing.assert_close(gradient, z.grad, atol=1e-6, rtol=1e-5)


def test_a_tokens_loss_is_its_weighted_sum() -> None:
    torch.manual_seed(0)
    student = torch.randn(6, V)
    ids, logprobs = known(torch.randn(6, V), 5)
    soft, hard = computed(student, ids, logprobs), computed(student, ids, logprobs, weight=0)
    both = computed(student, ids, logprobs, weight=0.3)
    assert both[0] == pytest.approx(0.3 * soft[0] + 0.7 * hard[0], rel=1e-5)
    assert both[2] == pytest.approx(soft[0], rel=1e-5)
    torch.testing.assert_close(both[1], 0.3 * soft[1] + 0.7 * hard[1], atol=1e-5, rtol=1e-4)


def test_a_student_that_is_sure_has_a_finite_loss_and_gradient() -> None:
    """A student that gives the teacher's other tokens nothing at all must not make a NaN of the step."""
    student = torch.zeros(2, V)
    student[:, 3] = 200
    teacher = torch.zeros(2, V)
    for k in (1, 5, V):
        value, gradient, _ = computed(student, *known(teacher, k), 2.0)
        assert torch.isfinite(torch.tensor(value))
        assert torch.isfinite(gradient).all()


def test_probabilities_that_were_rounded_to_more_than_one_count_as_one() -> None:
    """Stored log-probabilities have 16 bits: those of two tokens may add up to a little more than 1."""
    ids, logprobs = torch.tensor([[1, 2]]), torch.tensor([[0.75, 0.2505]]).log()
    found = computed(torch.zeros(1, V), ids, logprobs, 2.0)
    wanted = computed(torch.zeros(1, V), ids, logprobs - logprobs.logsumexp(-1, keepdim=True), 2.0)
    assert found[0] == pytest.approx(wanted[0], rel=1e-2)
    torch.testing.assert_close(found[1], wanted[1], atol=1e-2, rtol=1e-2)

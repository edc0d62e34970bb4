import pytest
import torch

from kgnn.models.epochs import repeatable
from kgnn.nn.attention import attention


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return [torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def test_it_is_the_softmax_of_products(qkv):
    q, k, v = qkv
    mask = torch.rand(2, 1, 5, 5) < 0.7
    mask |= torch.eye(5, dtype=torch.bool)
    by_hand = ((q @ k.transpose(-1, -2)) / 2).masked_fill(~mask, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(attention(q, k, v, mask), by_hand)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_whatever_the_gradient_is_of_pytorch_is_asked_to_warn_afterwards(qkv, number):
    with repeatable(True):
        torch.autograd.grad(attention(*(part * 1 for part in qkv)).sum(), qkv[number])
        assert torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("training", [True, False])
def test_while_a_model_trains_its_gradient_asks_for_one_order(qkv, training):
    found = []

    def look(_):
        found.append(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        )

    with repeatable(training):
        qkv[0].register_hook(look)  # the first to learn that the attention's own gradient is done
        heard = attention(*qkv)
        heard.register_hook(look)
        qkv[0].register_hook(look)
        heard.sum().backward()
        look(None)
    look(None)
    strict, warns, free = (True, False), (True, True), (False, False)
    assert found == ([strict, strict, warns, warns, free] if training else [free] * 5)

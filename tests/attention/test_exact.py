import torch

from enlca.attention.exact import ExactAttend, dense_attention

B, N, D, E = 2, 59, 13, 7


def test_fused_exact_attention_is_eq_1_in_value_and_gradient():
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(B, c, N, generator=generator, dtype=torch.float64).requires_grad_() for c in (D, D, E)
    ]
    slow, fast = dense_attention(*inputs), ExactAttend()(*inputs)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    for a, b in zip(
        torch.autograd.grad(fast, inputs, upstream), torch.autograd.grad(slow, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_dense_attention_is_the_literal_sum_of_eq_1():
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(1, c, 11, generator=generator, dtype=torch.float64) for c in (D, D, E))
    for i in range(11):
        weights = torch.stack([(q[0, :, i] @ k[0, :, j]).exp() for j in range(11)])
        y = sum(w / weights.sum() * v[0, :, j] for j, w in enumerate(weights))
        torch.testing.assert_close(dense_attention(q, k, v)[0, :, i], y)

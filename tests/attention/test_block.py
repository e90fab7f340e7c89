import jaxtyping
import pytest
import torch

from enlca.attention.block import ATTENDS, NonLocalBlock
from enlca.attention.exact import dense_attention

C, H, W = 11, 7, 5


def block(**settings: object) -> NonLocalBlock:
    torch.manual_seed(0)
    return NonLocalBlock(C, **{"dim": 3, "n_features": 19, **settings})  # pyright: ignore


def picture(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, C, H, W, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("k", [0.5, 6.0])
def test_queries_and_keys_have_length_sqrt_k(k):
    embeddings = block(amplification=k).embed(picture())
    for u in (embeddings.q, embeddings.k):
        assert u.shape == (2, 3, H * W)
        torch.testing.assert_close(u.norm(dim=1), torch.full((2, H * W), k**0.5))
    assert embeddings.v.shape == (2, C, H * W)


def test_nlsa_s_keys_are_its_queries_at_length_one_and_nothing_is_amplified():
    module, x = block(attend="lsh", kernel_size=3), picture()
    embeddings = module.embed(x)
    assert torch.equal(embeddings.q, module.embed.match(x).flatten(2))
    torch.testing.assert_close(embeddings.k, embeddings.q / embeddings.q.norm(dim=1, keepdim=True))
    assert embeddings.v.shape == (2, C, H * W)
    assert module.embed.value.kernel_size == (1, 1)


@pytest.mark.parametrize(
    ("shape", "got"), [((C, H, W), "11 x 7 x 5"), ((1, 3, H, W), "1 x 3 x 7 x 5"), ((C, H * W), "11 x 35")]
)
def test_another_shape_is_refused_in_our_words(monkeypatch, shape, got):
    # Outside the tests nothing checks the signature.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=rf"^takes feature maps of B x 11 x H x W; got {got}$"):
        block()(torch.zeros(shape))


@pytest.mark.parametrize("attend", sorted(ATTENDS))
def test_a_block_adds_scaled_attention_to_its_input(attend):
    module, x = block(attend=attend, res_scale=0.3).eval(), picture()
    y, embeddings = module.forward_with_embeddings(x)
    torch.testing.assert_close(y, x + 0.3 * module.attended(embeddings, width=W).view_as(x))
    assert torch.equal(y, module(x))


def test_the_exact_block_is_eq_1_to_3():
    module, x = block(attend="exact", res_scale=1.0), picture()
    q, k = (
        6.0**0.5 * torch.nn.functional.normalize(conv(x).flatten(2), dim=1)
        for conv in (module.embed.query, module.embed.key)
    )
    y = dense_attention(q, k, module.embed.value(x).flatten(2)).view_as(x)
    torch.testing.assert_close(module(x), x + y)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_block_commutes_with_the_symmetries_of_a_square(turns, mirror):
    module, x = block(), picture()

    def move(u: torch.Tensor) -> torch.Tensor:
        u = torch.rot90(u, turns, dims=(-2, -1))
        return u.flip(-1) if mirror else u

    torch.testing.assert_close(module(move(x)), move(module(x)))


def test_images_of_a_batch_do_not_influence_each_other():
    module, x = block(), picture()
    torch.testing.assert_close(module(x)[:1], module(x[:1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attend", sorted(ATTENDS))
def test_half_precision_blocks_stay_close_to_single_precision(dtype, attend):
    module, x = block(attend=attend), picture()
    expected = module(x)
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    # Inputs, weights and output are rounded to the type; attention is in fp32: a few units in the last place.
    torch.testing.assert_close(y.float(), expected, atol=16 * torch.finfo(dtype).eps, rtol=0)


def test_the_kernel_size_of_the_embedding_is_a_choice():
    assert block(kernel_size=3).embed.query.weight.shape == (3, C, 3, 3)
    assert block(kernel_size=3)(picture()).shape == (2, C, H, W)


def test_the_default_width_of_q_and_k_is_a_quarter():
    assert (
        NonLocalBlock(64, attend="linear", amplification=6.0, n_features=128).embed.query.out_channels == 16
    )


def test_unknown_attention_lists_what_there_is():
    with pytest.raises(
        ValueError, match=r"unknown attention 'foo'; choose from \['exact', 'linear', 'lsh', 'window'\]"
    ):
        block(attend="foo")


def test_amplification_must_be_positive():
    with pytest.raises(ValueError, match="amplification must be positive, got 0"):
        block(amplification=0.0)


@pytest.mark.parametrize("eps", [0.0, 1e-19, float("inf"), float("nan")])
def test_an_eps_that_makes_nan_of_features_that_are_zero_is_refused(eps):
    with pytest.raises(ValueError, match=rf"eps must be finite and at least 1e-18, got {eps}"):
        NonLocalBlock(8, eps=eps)

import pytest
import torch

from enlca.attention.block import Embeddings
from enlca.attention.contrastive import contrastive_loss
from enlca.losses import ENLCALoss


def embeddings(seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 5, 101, generator=generator) for _ in range(3))
    q, k = (6.0**0.5 * u / u.norm(dim=1, keepdim=True) for u in (q, k))
    return Embeddings(q, k, v)


SR, HR = torch.rand(2, 2, 3, 7, 11, generator=torch.Generator().manual_seed(9))
SEEN = [embeddings(1), embeddings(2)]


def test_the_loss_is_eq_12_with_the_contrast_averaged_over_blocks():
    terms = ENLCALoss(contrast_weight=0.25)(SR, HR, SEEN, contrast=True)
    l1 = (SR - HR).abs().mean()
    contrast = sum(float(contrastive_loss(seen.q, seen.k).loss) for seen in SEEN) / 2
    torch.testing.assert_close(terms.l1, l1)
    torch.testing.assert_close(float(terms.contrast), contrast)
    torch.testing.assert_close(float(terms.total), float(l1) + 0.25 * contrast)
    torch.testing.assert_close(float(terms.gap), 1.0 - contrast)


@pytest.mark.parametrize(
    ("weight", "seen", "contrast"), [(1e-3, SEEN, False), (0.0, SEEN, True), (1e-3, [], True)]
)
def test_warm_up_zero_weight_and_no_attention_leave_l1_alone(weight, seen, contrast):
    terms = ENLCALoss(contrast_weight=weight)(SR, HR, seen, contrast=contrast)
    assert terms.total == terms.l1
    assert float(terms.contrast) == float(terms.gap) == 0.0


def test_settings_reach_the_contrastive_loss():
    settings = {"relevant": 7, "start": 30, "margin": 0.5, "hinge": True, "irrelevant_floor": 1e-2}
    terms = ENLCALoss(**settings)(SR, HR, SEEN[:1], contrast=True)
    expected = contrastive_loss(SEEN[0].q, SEEN[0].k, **settings)
    torch.testing.assert_close(terms.contrast, expected.loss)


def test_half_precision_predictions_are_compared_in_single_precision():
    terms = ENLCALoss()(SR.half(), HR, [], contrast=False)
    assert terms.total.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrast_weight": -1.0}, "contrast_weight must be finite and not negative"),
        ({"anchors": 0}, "anchors must be at least 1"),
        ({"relevant": 0.0}, "relevant must be a share"),
        ({"start": 1.5}, "start must be a share"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ENLCALoss(**settings)


def test_the_squared_error_takes_the_place_of_l1_in_the_total():
    sr, hr = torch.rand(2, 2, 3, 7, 5)
    terms = ENLCALoss(kind="l2", contrast_weight=0.0)(sr, hr, [], contrast=True)
    torch.testing.assert_close(terms.total, ((sr - hr) ** 2).mean())
    torch.testing.assert_close(terms.l1, (sr - hr).abs().mean())
    with pytest.raises(ValueError, match=r"loss\.kind must be one of l1, l2; got 'l3'"):
        ENLCALoss(kind="l3")


def test_the_gradient_term_weighs_edges_and_ignores_the_mean():
    loss = ENLCALoss(gradient=0.5, contrast_weight=0.0)
    terms = loss(SR, HR, [], contrast=False)
    down = (SR[..., 1:, :] - SR[..., :-1, :]) - (HR[..., 1:, :] - HR[..., :-1, :])
    right = (SR[..., 1:] - SR[..., :-1]) - (HR[..., 1:] - HR[..., :-1])
    torch.testing.assert_close(terms.total, terms.l1 + (down.abs().mean() + right.abs().mean()) / 4)
    torch.testing.assert_close(terms.l1, (SR - HR).abs().mean())
    assert float(loss(HR + 0.25, HR, [], contrast=False).total) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_of_gradients_is_refused(weight):
    with pytest.raises(ValueError, match="gradient must"):
        ENLCALoss(gradient=weight)

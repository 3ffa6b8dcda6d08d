"""Cascading randomisation: from the output down, on a copy, and measures of likeness that know what likeness is."""

import pytest
import torch
from scipy.stats import rankdata
from small_networks import noise, outside, same_outside, tiny
from torch import nn

from nbhelpers import models
from nbhelpers.attribution import randomisation
from nbhelpers.models import Network


@pytest.fixture
def network():
    return Network(tiny().eval(), "tiny", size=16)


def weights(network) -> dict[str, torch.Tensor]:
    return {name: module.weight.clone() for name, module in network.net.named_modules() if hasattr(module, "weight")}


def test_layers_become_random_from_the_output_down_and_stay_so(network):
    before, stages = outside(network), []
    for layer, forgetful in randomisation.cascade(network):
        stages.append((layer, weights(forgetful)))
    assert [layer for layer, _ in stages] == ["head", "conv2", "conv1"]
    trained = weights(network)
    for number, (_, found) in enumerate(stages):
        changed = {name for name in trained if not torch.equal(trained[name], found[name])}
        assert changed == {layer for layer, _ in stages[: number + 1]}
        for layer, _ in stages[: number + 1]:
            assert torch.equal(found[layer], stages[-1][1][layer])
    assert same_outside(before, outside(network))


def test_fewer_stages_end_in_the_same_random_network(network):
    every = [(layer, weights(forgetful)) for layer, forgetful in randomisation.cascade(network, seed=3)]
    some = [(layer, weights(forgetful)) for layer, forgetful in randomisation.cascade(network, stages=2, seed=3)]
    other = [weights(forgetful) for _, forgetful in randomisation.cascade(network, stages=1, seed=4)]
    assert [layer for layer, _ in some] == ["conv2", "conv1"]
    assert all(torch.equal(some[-1][1][name], every[-1][1][name]) for name in every[-1][1])
    assert not torch.equal(other[0]["head"], every[-1][1]["head"])


def test_the_global_randomness_is_left_alone(network):
    state = torch.get_rng_state()
    list(randomisation.cascade(network))
    assert torch.equal(state, torch.get_rng_state())


def test_every_layer_of_a_network_with_branches_is_reached():
    network = models.load("squeezenet1_0", weights=None, device="cpu")
    names = [layer for layer, _ in randomisation.cascade(network, stages=3)]
    assert names[-1] == "features.0"
    assert len(names) == 3
    assert len(list(randomisation.cascade(network))) == 26


def test_rank_correlation_against_its_definition():
    first, second = noise(3, 9, 8), noise(3, 9, 8, seed=1)
    second[2] = (first[2] * 4).round()  # with ties
    found = randomisation.rank_correlations(first, second)
    for index in range(3):
        ranks = torch.from_numpy(rankdata(torch.stack([first[index], second[index]]).flatten(1), axis=1))
        assert found[index].item() == pytest.approx(torch.corrcoef(ranks)[0, 1].item(), abs=1e-6)
    assert torch.allclose(randomisation.rank_correlations(first, first.exp()), torch.ones(3))
    assert torch.allclose(randomisation.rank_correlations(first, -first), -torch.ones(3))
    assert randomisation.rank_correlations(torch.ones(1, 8, 8), first[:1, :8]).item() == 0


def test_structural_similarity_knows_the_same_picture():
    maps = noise(2, 24, 24)
    assert torch.allclose(randomisation.structural_similarities(maps, 3 * maps + 1), torch.ones(2), atol=1e-5)
    assert (randomisation.structural_similarities(maps, noise(2, 24, 24, seed=1)) < 0.2).all()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_says_what_is_wrong(network):
    with pytest.raises(ValueError, match="0 stages: at least one"):
        next(randomisation.cascade(network, stages=0))
    with pytest.raises(ValueError, match="has no parameters"):
        next(randomisation.cascade(Network(nn.Flatten(), "flat", size=4)))
    with pytest.raises(ValueError, match="too small to compare: at least 7"):
        randomisation.structural_similarities(noise(1, 5, 9), noise(1, 5, 9))
    with pytest.raises(ValueError, match="cannot be compared place by place"):
        randomisation.rank_correlations(noise(1, 8, 8), noise(1, 9, 8))
    with pytest.raises(ValueError, match="not finite"):
        randomisation.rank_correlations(torch.full((1, 8, 8), torch.nan), noise(1, 8, 8))

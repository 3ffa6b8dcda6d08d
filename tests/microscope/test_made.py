"""Pictures as jobs: what is drawn, what is kept, what goes on after a stop."""

from pathlib import Path

import pytest
import torch
from small_networks import tiny

from nbhelpers import models, recipes
from nbhelpers.microscope import made
from nbhelpers.models import Network

QUICK = dict(steps=1)


@pytest.fixture
def network() -> Network:
    return Network(tiny().eval(), "tiny", classes=["ant", "bee", "cat", "dog", "elk"], size=32)


def drawn(jobs: list[made.Job], network: Network, kept: made.Folder) -> list[made.Job]:
    return list(made.draw([job for job in jobs if kept.pictures(job) is None], network, kept))


def test_all_convolutions_and_classes_unless_layers_are_named(network: Network) -> None:
    assert [layer.name for layer in made.layers(network)] == ["conv1", "conv2"]
    assert [layer.name for layer in made.layers(network, ["relu2", "conv1", "relu2"])] == ["conv1", "relu2"]
    jobs = made.jobs(network, made.layers(network))
    assert [(job.layer, job.channels) for job in jobs] == [
        ("conv1", tuple(range(8))),
        ("conv2", tuple(range(6))),
        ("", tuple(range(5))),
    ]


def test_bundled_network_whole_is_every_channel_of_every_convolution_once() -> None:
    network = models.load("minivgg_robust")
    chosen = made.layers(network)
    jobs = made.jobs(network, chosen)
    wanted = [(layer.name, channel) for layer in chosen for channel in range(layer.channels)]
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(wanted) == sum(convolution.out_channels for convolution in convolutions)
    assert [(job.layer, c) for job in jobs for c in job.channels] == wanted + [("", c) for c in range(100)]


def test_some_channels_alone_are_the_pictures_of_all(network: Network) -> None:
    for kind in made.KINDS:
        some = made.jobs(network, made.layers(network, ["conv2"]), [kind], classes=False, only=[4, 1])
        drawn_alone = torch.cat([job.recipe.changed(steps=2).run(network).picture for job in some])
        assert [channel for job in some for channel in job.channels] == (
            [4] * 4 + [1] * 4 if kind == "diverse" else [4, 1]
        )
        all_of_them = made.jobs(network, made.layers(network, ["conv2"]), [kind], classes=False)
        wanted = next(job for job in all_of_them if 4 in job.channels)
        at = wanted.channels.index(4)
        again = wanted.recipe.changed(steps=2).run(network).picture[at]
        torch.testing.assert_close(drawn_alone[0], again, atol=1e-4, rtol=0)


def test_a_layer_without_maps_is_refused_by_name(network: Network) -> None:
    with pytest.raises(KeyError, match="head"):
        made.layers(network, ["head"])
    linear = Network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2)).eval(), "plain", size=8)
    with pytest.raises(ValueError, match="no feature maps"):
        made.layers(linear)


def test_a_stopped_run_goes_on_and_nothing_is_drawn_twice(network: Network, tmp_path: Path) -> None:
    jobs, kept = made.jobs(network, made.layers(network), **QUICK), made.Folder(tmp_path, network)
    next(made.draw(jobs, network, kept))
    first = {path: path.stat().st_mtime_ns for path in kept.paths(jobs[0])}
    assert drawn(jobs, network, kept) == jobs[1:]
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert drawn(jobs, network, kept) == []


def test_a_damaged_picture_is_drawn_again(network: Network, tmp_path: Path) -> None:
    jobs, kept = made.jobs(network, made.layers(network, ["conv2"]), **QUICK), made.Folder(tmp_path, network)
    drawn(jobs, network, kept)
    kept.paths(jobs[0])[3].write_bytes(b"half a picture")
    assert drawn(jobs, network, kept) == [jobs[0]]
    assert kept.pictures(jobs[0]) is not None


def test_pictures_are_those_of_their_recipe(network: Network, tmp_path: Path) -> None:
    chosen = made.layers(network, ["conv2"])
    jobs, kept = made.jobs(network, chosen, list(made.KINDS), **QUICK), made.Folder(tmp_path, network)
    drawn(jobs, network, kept)
    untrained = models.randomised(network, made.SEED)
    for job in jobs:
        path = kept.paths(job)[-1]
        again = recipes.remake(path, untrained if job.kind == "untrained" else network)
        kept_pixels = kept.pictures(job)[-1].read()
        assert (again - kept_pixels).abs().max() <= 0.5 / 255 + 1e-6, job.kind


def test_the_negative_is_driven_down_where_the_picture_is_driven_up(network: Network, tmp_path: Path) -> None:
    chosen = made.layers(network, ["conv2"])
    jobs = made.jobs(network, chosen, ["made", "negative"], classes=False, steps=8)
    kept = made.Folder(tmp_path, network)
    drawn(jobs, network, kept)
    means = []
    for job in jobs:
        pictures = torch.stack([picture.read() for picture in kept.pictures(job)])
        means.append(models.capture(network, "conv2")(pictures)["conv2"].mean((2, 3)).diagonal())
    assert (means[0] > means[1]).all()


def test_other_weights_under_the_same_name_have_pictures_of_their_own(network: Network, tmp_path: Path) -> None:
    job = made.jobs(network, made.layers(network), **QUICK)[0]
    other = Network(tiny(1).eval(), "tiny", size=32)
    assert set(made.Folder(tmp_path, network).paths(job)).isdisjoint(made.Folder(tmp_path, other).paths(job))


def test_a_channel_that_never_fires_is_said_to(tmp_path: Path) -> None:
    module = tiny()
    with torch.no_grad():
        module.conv2.weight[2] = 0
    network = Network(module.eval(), "tiny", size=32)
    jobs, kept = made.jobs(network, made.layers(network, ["conv2"]), **QUICK), made.Folder(tmp_path, network)
    drawn(jobs, network, kept)
    assert [picture.alive for picture in kept.pictures(jobs[0])] == [True, True, False, True, True, True]


def test_workers_draw_what_is_drawn_here(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the package distributed")
    network = models.load("minivgg_robust")
    jobs = made.jobs(network, made.layers(network, ["stem.conv"]), classes=False, steps=2)
    here, there = made.Folder(tmp_path / "here", network), made.Folder(tmp_path / "there", network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers: sums in another order end in other pictures
    try:
        list(made.draw(jobs, network, here))
    finally:
        torch.set_num_threads(threads)
    assert sorted(job.channels for job in made.draw(jobs, network, there, workers=2)) == [job.channels for job in jobs]
    for job in jobs:
        for ours, theirs in zip(here.pictures(job), there.pictures(job), strict=True):
            torch.testing.assert_close(ours.read(), theirs.read(), atol=1.01 / 255, rtol=0)


def test_a_cluster_by_its_address_draws_what_is_drawn_here(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    network = models.load("minivgg_robust")
    jobs = made.jobs(network, made.layers(network, ["stem.conv"]), classes=False, steps=2, only=[3, 5])
    here, there = made.Folder(tmp_path / "here", network), made.Folder(tmp_path / "there", network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        list(made.draw(jobs, network, here))
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as some:
            assert list(made.draw(jobs, network, there, scheduler=some.scheduler_address)) == jobs
    finally:
        torch.set_num_threads(threads)
    for ours, theirs in zip(here.pictures(jobs[0]), there.pictures(jobs[0]), strict=True):
        torch.testing.assert_close(ours.read(), theirs.read(), atol=1.01 / 255, rtol=0)


def test_no_scheduler_answers(network: Network, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the package distributed")
    jobs, kept = made.jobs(network, made.layers(network), **QUICK), made.Folder(tmp_path, network)
    with pytest.raises(ConnectionError, match="no Dask scheduler"):
        next(made.draw(jobs, network, kept, scheduler="inproc://1.2.3.4/5/6"))

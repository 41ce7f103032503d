"""A sweep on a real Ray cluster of two workers, one of which is killed in the middle."""

import json
import threading
import time

import pytest

from hvae_codec.data import ImageDataset
from hvae_codec.errors import SweepError
from hvae_codec.training.sweep.job import SweepJob, run_sweep
from hvae_codec.training.sweep.plan import write_plan
from hvae_codec.utils.executors.local import LocalExecutor
from hvae_codec.utils.executors.ray import RayExecutor

pytestmark = pytest.mark.usefixtures("one_thread")


def weights(directory, count):
    cards = [json.loads((directory / f"models/{i:04}.json").read_text()) for i in range(count)]
    return [card["sha256"] for card in cards]


def run_on_ray(job, progress):
    with RayExecutor(retries=5) as executor:
        return run_sweep(job, executor, progress)


def held_job(directory, released):
    """A job whose chunks stop after their first epoch until the file `released` exists.

    Its class travels to the workers with it.
    """

    class HeldImages(ImageDataset):
        def batches(self, epoch, order):
            deadline = time.monotonic() + 300
            while epoch > 0 and not released.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            for indices in order:
                yield self.images[indices]

    class HeldJob(SweepJob):
        def data(self):
            training, test = SweepJob.data(self)
            return HeldImages(training.images, training.labels, training.name, "train"), test

    return HeldJob(directory, threads=1)


def test_errors_are_those_of_the_chunk(cluster, make_plan, tmp_path):
    plan = make_plan()
    write_plan(tmp_path / "s", plan)
    text = (tmp_path / "s/sweep.json").read_text()
    (tmp_path / "s/sweep.json").write_text(text.replace('"test_images": 8', '"test_images": 9'))
    with pytest.raises(SweepError, match="begun with"):
        run_on_ray(SweepJob(tmp_path / "s", threads=1), lambda images: None)


def test_a_killed_worker_costs_an_epoch_at_most(cluster, make_plan, tmp_path):
    victim = min(cluster.worker_nodes, key=id)
    plan = make_plan(epochs=4, chunk=1, betas=((0.1, 0.1), (1.0, 1.0)))
    for name in ("local", "ray"):
        write_plan(tmp_path / name, plan)
    with LocalExecutor(1) as executor:
        run_sweep(SweepJob(tmp_path / "local", threads=1), executor, lambda images: None)

    killed, released = [], tmp_path / "released"

    def kill():
        states = [tmp_path / f"ray/chunks/00{i}/state.safetensors" for i in range(2)]
        deadline = time.monotonic() + 240
        while not all(state.exists() for state in states) and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.append(all(state.exists() for state in states))
        cluster.remove_node(victim, allow_graceful=False)
        released.touch()

    killer = threading.Thread(target=kill)
    killer.start()
    seen = []
    assert run_on_ray(held_job(tmp_path / "ray", released), seen.append) == []
    killer.join()
    assert killed == [True]  # both were at work when one was killed
    assert weights(tmp_path / "ray", 2) == weights(tmp_path / "local", 2)
    assert sum(seen) > 0  # what was counted on the lost machine is lost
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

"""Workers as actors of Ray: on this machine, or on the cluster that RAY_ADDRESS names.

Ray starts them, starts them anew where they die, and spreads them over machines; pictures never pass through
it. The units, their outcomes and what is left to do are those of every runner, so that a job begun with one
may go on with another.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from enlca.bulk.drive import Crashed, Queue
from enlca.bulk.manifest import Unit
from enlca.bulk.spec import Spec, Tally
from enlca.bulk.stores import first_line
from enlca.bulk.worker import begin
from enlca.errors import BulkError, EnlcaError, require
from enlca.runtime.device import choose_device


class RayPool(Queue):
    """Actors that each hold a network.

    Args:
        spec: of the job; its URLs must mean the same on all machines.
        workers: how many.

    Raises:
        BulkError: Ray does not start, or its cluster does not answer.
        DeviceError: there is no such device.
        MissingExtra: Ray is not installed.
    """

    def __init__(self, spec: Spec, workers: int):
        super().__init__(workers)
        with require("ray", feature="bulk --runner ray"):
            import ray  # pyright: ignore[reportMissingImports]
        self.ray: Any = ray
        if not ray.is_initialized():
            # Ray's own processes need some CPUs, too.
            here = {"num_cpus": max(4, os.cpu_count() or 1), "include_dashboard": False}
            try:
                ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else here))
            except Exception as error:
                # Ray has no type of its own for a cluster that does not answer or does not start.
                raise BulkError(f"Ray cannot begin: {first_line(error)}") from error
        gpus = 1 if choose_device(spec.device).type == "cuda" else 0
        # Two calls at once: `drain` while a unit is at work.
        actor = ray.remote(_Actor).options(max_restarts=-1, max_concurrency=2, num_cpus=1, num_gpus=gpus)
        # An actor sees the GPU that Ray gives it, and no other.
        spec = replace(spec, device=spec.device.partition(":")[0])
        self._actors: list[Any] = [actor.remote(spec) for _ in range(workers)]

    def begin(self) -> None:
        """Wait until one of the actors has begun. Raises EnlcaError: it cannot."""
        try:
            ready, _ = self.ray.wait([actor.begun.remote() for actor in self._actors])
            self.ray.get(ready)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, EnlcaError) else error from error
        except self.ray.exceptions.RayError:
            # It died, is started anew, and is reported by its first unit.
            return

    def hand(self, unit: Unit, worker: int) -> Any:
        """Let an actor begin a unit."""
        return self._actors[worker].run.remote(unit)

    def finished(self, timeout: float) -> Iterator[tuple[Unit, Tally | Exception]]:
        """Yield the units that are finished, or `Crashed` ones, after at most `timeout` seconds."""
        if not self.at_work:
            return
        ready, _ = self.ray.wait(list(self.at_work), timeout=timeout)
        for reference in ready:
            unit, _ = self.at_work.pop(reference)
            try:
                yield unit, self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as error:
                yield unit, error.cause if isinstance(error.cause, Exception) else error
            except self.ray.exceptions.RayError:
                yield unit, Crashed()
        self.hand_out()

    def drain(self) -> None:
        """Let each actor finish its present picture, and begin none."""
        self.waiting.clear()
        for actor in self._actors:
            actor.stop.remote()

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for actor in self._actors:
            self.ray.kill(actor)
        self.ray.shutdown()


class _Actor:
    def __init__(self, spec: Spec):
        self.stopped = False
        # By the first call, which can report why it cannot begin.
        self.load = cache(lambda: begin(spec))

    def begun(self) -> None:
        self.load()

    def run(self, unit: Unit) -> Tally:
        return self.load().run(unit, lambda: self.stopped)

    def stop(self) -> None:
        self.stopped = True

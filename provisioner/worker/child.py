"""The worker: looks twice a second for what waits in the database, and does it in threads of its own; and sweeps.

It may be killed at any moment. What it had in hand is tried again once its lease ends.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from provisioner.errors import ProvisionerError
from provisioner.services import deliveries, pruning
from provisioner.services.deliveries import Batch
from provisioner.services.outbound import Outcome
from provisioner.services.site import Site
from provisioner.worker.effects import Effects

log = structlog.get_logger()
_LOOK_SECONDS = 0.5
_PRUNE_SECONDS = 300.0
_THREADS = 16
_BATCH_SECONDS = 15.0
"""No delivery of a batch begins later: with its own limit the batch ends well within its lease."""
_REST_SECONDS = 10.0
_SETTLE_TRIES = 10


def run(site: Site, stop: threading.Event) -> None:
    """Work until ``stop``."""
    worker = Worker(site, stop)
    while not stop.is_set():
        worker.look()
        stop.wait(_LOOK_SECONDS)
    worker.end()


class Worker:
    """Queues what happened, and delivers what is due: one thread for each webhook that has something."""

    def __init__(self, site: Site, stop: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._stop, self._clock = site, stop, clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="webhook")
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._rests: dict[int, float] = {}
        self._prune_at = clock()
        self._effects = Effects(site, clock)
        self._failures = 0

    def look(self) -> None:
        """One round; never raises, and waits for no receiver."""
        try:
            while deliveries.queue_news(self._site) and not self._stop.is_set():
                pass
            self._prune()
            self._effects.look()
            for webhook_id in deliveries.due(self._site):
                self._start(webhook_id)
        except ProvisionerError as error:
            log.debug("the database cannot be asked", error=str(error))
        except Exception:  # this loop must survive: without it nobody is told of anything
            self._failures += 1
            log.exception("the worker failed", failures=self._failures)

    def end(self) -> None:
        """Wait for what is under way, which takes at most one delivery's time."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prune(self) -> None:
        if self._clock() < self._prune_at:
            return
        for prune in (deliveries.prune, pruning.old_events):
            while prune(self._site) and not self._stop.is_set():
                pass
        self._prune_at = self._clock() + _PRUNE_SECONDS

    def _start(self, webhook_id: int) -> None:
        with self._lock:
            if webhook_id in self._busy or self._clock() < self._rests.get(webhook_id, 0.0):
                return
            self._busy.add(webhook_id)
        self._pool.submit(self._deliver, webhook_id)

    def _deliver(self, webhook_id: int) -> None:
        try:
            while not self._stop.is_set():
                batch = deliveries.claim(self._site, webhook_id)
                if batch is None or not self._try(batch):
                    return
        except ProvisionerError as error:
            log.warning("deliveries not claimed", webhook=webhook_id, error=str(error))
        except Exception:  # one webhook's trouble is not another's
            self._failures += 1
            log.exception("delivering failed", webhook=webhook_id, failures=self._failures)
        finally:
            with self._lock:
                self._busy.discard(webhook_id)

    def _try(self, batch: Batch) -> bool:
        """Deliver a batch; whether the receiver answers."""
        outcomes: dict[str, Outcome] = {}
        began, answers = self._clock(), True
        for job in batch.jobs:
            if self._stop.is_set() or not answers or self._clock() - began > _BATCH_SECONDS:
                break
            outcomes[job.uid] = outcome = deliveries.send(self._site, batch, job)
            answers = outcome.answered
        if not answers:
            with self._lock:
                self._rests[batch.webhook_id] = self._clock() + _REST_SECONDS
            log.warning("webhook does not answer", webhook=batch.name, error=outcome.error)
        self._settle(batch, outcomes)
        return answers

    def _settle(self, batch: Batch, outcomes: dict[str, Outcome]) -> None:
        """Write down what came; a database that is busy is asked again, since else all would be sent once more."""
        for _ in range(_SETTLE_TRIES):
            try:
                deliveries.settle(self._site, batch, outcomes)
            except ProvisionerError as error:
                trouble = str(error)
            else:
                return
            if self._stop.wait(1):
                break
        log.error("what came of deliveries is not written down", webhook=batch.name, error=trouble)

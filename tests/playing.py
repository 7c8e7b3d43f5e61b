"""A run of the simulation beside a test that meanwhile breaks something."""

import threading
from collections import Counter

from conftest import Served

from provisioner.simulate import Plan, Result, run


class Playing(threading.Thread):
    """A run of the simulation beside the test. ``begun`` is set once the machines are on; ``phases`` counts them."""

    def __init__(self, served: Served, plan: Plan) -> None:
        super().__init__(daemon=True)  # it must not hold up a test that failed
        self.served, self.plan = served, plan
        self.begun = threading.Event()
        self.phases: Counter[str] = Counter()
        self.result: Result | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Play, and keep what came of it."""
        site = self.served.site
        try:
            self.result = run(site, self.plan, watch=self._watch)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        finally:
            self.begun.set()
            site.engine.dispose()

    def _watch(self, phases: Counter[str], _seconds: float) -> None:
        self.phases = phases
        self.begun.set()

    def outcome(self) -> Result:
        """The result, once it is there."""
        self.join()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

"""Effects at the servers of configuration management, a thread each; and the handoffs whose time is up.

What is under way when the service stops is left: its lease ends, and it is tried again.
"""

import threading
import time
from collections.abc import Callable

import structlog

from provisioner.errors import ProvisionerError
from provisioner.services import handoffs, outbox
from provisioner.services.site import Site

log = structlog.get_logger()
_THREADS = 16
_SWEEP_SECONDS = 5.0


class Effects:
    """Starts what is due in the outbox."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._clock = site, clock
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._sweep_at = clock()
        self.failures = 0

    def look(self) -> None:
        """One round; waits for no tool's server. Raises ProvisionerError where the database cannot be asked."""
        if self._clock() >= self._sweep_at:
            self._sweep_at = self._clock() + _SWEEP_SECONDS
            handoffs.overdue(self._site)
        for effect_id in outbox.due(self._site):
            with self._lock:
                if effect_id in self._busy or len(self._busy) >= _THREADS:
                    continue
                self._busy.add(effect_id)
            # A playbook may take an hour: a thread that nobody waits for when the service stops.
            threading.Thread(target=self._carry_out, args=(effect_id,), name="handoff", daemon=True).start()

    def _carry_out(self, effect_id: int) -> None:
        try:
            effect = outbox.claim(self._site, effect_id)
            if effect is not None:
                outbox.carry_out(self._site, effect)
        except ProvisionerError as error:
            log.warning("a handoff's effect was not carried out", error=str(error))
        except Exception:  # one machine's trouble is not another's; its lease ends, and it is tried again
            self.failures += 1
            log.exception("a handoff's effect failed", effect=effect_id, failures=self.failures)
        finally:
            with self._lock:
                self._busy.discard(effect_id)

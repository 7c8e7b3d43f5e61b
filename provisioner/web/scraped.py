"""`GET /metrics` of the admin plane: what all processes counted, and what there is at this moment.

Prometheus sends an API token; any that may read builds will do. Numbers of machines and builds are nobody's business
who may not see them.
"""

import hashlib
import time
from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from provisioner import metrics
from provisioner.core.policy import READ
from provisioner.errors import DatabaseUnavailable, NotLoggedIn
from provisioner.services import gauges, tokens
from provisioner.services.site import Site
from provisioner.web.common import problem, source

_REMEMBERED_SECONDS = 3600.0
_MOST_REMEMBERED = 100


def register(app: Flask, site: Site) -> None:
    """Give the application its route."""
    readers = _Readers(site)

    @app.get("/metrics", provide_automatic_options=False)
    def metrics_page() -> Response:
        try:
            readers.admit()
        except NotLoggedIn as error:
            refused = problem(error)
            refused.headers["WWW-Authenticate"] = 'Bearer realm="provisioner"'
            return refused
        content, content_type = metrics.exposed(request.headers.get("Accept", ""), _moment(gauges.look(site)))
        return Response(content, content_type=content_type)


class _Readers:
    """Who may read. While the database cannot be asked, those may who could in the last hour: then it matters most."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._good: dict[bytes, float] = {}

    def admit(self) -> None:
        """Raises NotLoggedIn, Forbidden, DatabaseUnavailable."""
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        bearer = bearer.strip() if kind.lower() == "bearer" else ""
        digest, moment = hashlib.sha256(bearer.encode()).digest(), time.monotonic()
        try:
            tokens.authenticate(self._site, bearer, source()).require("builds", READ)
        except DatabaseUnavailable:
            if moment - self._good.get(digest, -_REMEMBERED_SECONDS) >= _REMEMBERED_SECONDS:
                raise
            return
        except BaseException:
            self._good.pop(digest, None)
            raise
        if len(self._good) >= _MOST_REMEMBERED:
            self._good.clear()
        self._good[digest] = moment


def _moment(now: gauges.Gauges) -> Iterator[Metric]:
    yield _gauge("database_up", "whether the database can be asked", int(now.database))
    yield _gauge("spool_attempts", "attempts whose reports wait on disk for the database", now.spooled_attempts)
    yield _gauge("spool_aside", "reports that could not be applied and wait for somebody", now.spool_aside)
    if not now.database:
        return
    yield _gauges("builds", "builds under way by state", now.builds)
    yield _gauges("machines", "machines by state", now.machines)
    yield _gauge("machines_flagged", "machines that somebody should look at", now.flagged)
    yield _gauge("discoveries_waiting", "machines in quarantine that nobody registered", now.discoveries)
    yield _gauge("dhcp_changes_behind", "changes that the DHCP server does not know yet", now.dhcp_behind)


def _gauge(name: str, words: str, value: int) -> Metric:
    return GaugeMetricFamily(f"provisioner_{name}", words, value)


def _gauges(name: str, words: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(f"provisioner_{name}", words, labels=["state"])
    for state, value in values.items():
        family.add_metric([state], value)
    return family

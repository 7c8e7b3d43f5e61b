"""The planner of boot storms."""

from typing import Any

from provisioner.errors import BuildNotPossible, MediaMissing, NotFound
from provisioner.services import storm
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.storm import StormQuery, StormView

operations = Operations()


@operations.add(
    "GET",
    "/storm:plan",
    noun="builds",
    query=StormQuery,
    answer=StormView,
    errors=(NotFound, BuildNotPossible, MediaMissing),
)
def plan_storm(call: Call) -> Any:
    """Plan the boot of many machines at once: how long it takes, what limits it, and in what waves to start them.

    It counts with what earlier builds of the profile loaded, or else with the files that are registered.
    """
    return storm.plan(call.site, **call.query.model_dump())

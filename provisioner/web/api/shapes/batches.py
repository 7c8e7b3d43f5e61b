"""The shapes of plans."""

from typing import Annotated, Any

from pydantic import Field

from provisioner.web.api.shapes.common import Body, View
from provisioner.web.api.shapes.radius import Rehearsable

MOST_MACHINES = 10_000
Machines = Annotated[
    list[dict[str, Any]],
    Field(
        min_length=1,
        max_length=MOST_MACHINES,
        description="each as in PUT /machines/by-mac, with its interfaces; what is wrong with one is told in `refused`",
        examples=[[{"name": "web01", "interfaces": [{"mac": "52:54:00:12:34:56", "ip": "10.0.2.11"}]}]],
    ),
]
FlagMissing = Annotated[
    str | None,
    Field(
        max_length=128,
        description="tell in `missing` of machines whose `inventory` begins so and that are not sent; never removed",
        examples=["netbox/"],
    ),
]


class PlanBody(Body):
    """Machines to plan with."""

    machines: Machines
    flag_missing: FlagMissing = None


class ApplyBody(Body):
    """A plan's id, or the machines themselves."""

    plan: Annotated[str, Field(max_length=64, examples=["QmFzZTY0VXJsMTY"])] | None = None
    machines: Machines | None = None
    flag_missing: FlagMissing = None


class Difference(View):
    """A field that changes."""

    pointer: str
    before: Any = None
    after: Any = None


class Created(View):
    """A machine that would be added."""

    index: int = Field(description="its place in what was sent")
    name: str
    machine: dict[str, Any]


class Changed(View):
    """A machine that would change, field by field."""

    index: int
    name: str
    changes: list[Difference]


class Refused(View):
    """A machine that cannot be as it was sent, and why."""

    index: int
    name: str | None
    reason: str
    code: str
    pointer: str
    hint: str


class PlanView(Rehearsable):
    """What sending these machines would do."""

    id: str = Field(description="good for a day")
    fence: int = Field(description="how many changes the history had")
    machines: int
    created: list[Created]
    changed: list[Changed]
    refused: list[Refused]
    unchanged: int
    missing: list[str]


class Applied(Rehearsable):
    """What was done."""

    id: str
    machines: int
    created: list[str]
    changed: list[str]
    unchanged: int
    missing: list[str]
    applied_at: str
    again: bool = Field(description="this plan was applied before; nothing was changed now")


class NetboxAnswer(View):
    """What came of NetBox's event."""

    result: dict[str, Any]

"""What a rehearsed change would do to machines."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from provisioner.web.api.shapes.common import View

Names = Annotated[list[str], Field(description="names of machines", examples=[["web01", "web02"]])]
_DIFF = "--- now/answer\n+++ then/answer\n@@ -6 +6 @@\n-timezone 'UTC' --utc\n+timezone 'CET' --utc\n"
_EXAMPLE: dict[str, Any] = {
    "reached": 3,
    "changed": 2,
    "failed": 1,
    "unchanged": 0,
    "errors": [
        {
            "code": "parameter-missing",
            "message": "no value for parameters.rack",
            "where": "snippets/motd.sh.j2:3",
            "hint": "set it: `provisioner machine edit NAME --param rack=VALUE`, or in the profile's parameters",
            "machines": ["db01"],
        }
    ],
    "groups": [
        {
            "machines": ["web01", "web02"],
            "example": "web01",
            "files": {"answer": _DIFF},
            "problem": None,
            "warnings": [],
            "validated": True,
        }
    ],
    "unrendered": [],
    "mended": [],
    "added": [],
    "sealed": ["web02"],
    "seconds": {"rendering": 0.4, "validating": 0.2},
}


class RadiusProblem(View):
    """Why a machine could not be built."""

    code: str = Field(description="for programs; stable", examples=["parameter-missing"])
    message: str = Field(examples=["no value for parameters.rack"])
    where: str = Field(description="template and line, where they are known", examples=["snippets/motd.sh.j2:3"])
    hint: str = Field(description="the next step")


class RadiusReason(RadiusProblem):
    """The same, with the machines that it is so for."""

    machines: Names


class RadiusGroup(View):
    """Machines whose files would differ alike, but for their own names, addresses, MACs, serial numbers and UUIDs."""

    machines: Names
    example: str = Field(description="one of them", examples=["web01"])
    files: dict[str, str] = Field(
        description="the example's differences by file, as unified diffs; tokens are masked",
        examples=[{"answer": _DIFF}],
    )
    problem: RadiusProblem | None = Field(description="what the installer's validator refuses; null: nothing")
    warnings: list[str] = Field(description="what else the validator said", examples=[[]])
    validated: bool = Field(description="whether it was validated as far as need be; at most 50 groups are")


class RadiusSeconds(View):
    """How long it took."""

    rendering: float = Field(description="before and after, of all machines", examples=[0.4])
    validating: float = Field(description="one output of each group", examples=[0.2])


class Radius(View):
    """What a rehearsed change (`X-Dry-Run: true`) would do to the machines that depend on what it changes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    reached: int = Field(description="machines that depend on it", examples=[3])
    changed: int = Field(description="of them, those whose next build would be another", examples=[2])
    failed: int = Field(description="those that can be rendered now, and could not then", examples=[1])
    unchanged: int = Field(description="those that would stay as they are", examples=[0])
    errors: list[RadiusReason] = Field(description="why those fail")
    groups: list[RadiusGroup] = Field(description="the differences, each once")
    unrendered: list[RadiusReason] = Field(description="those that cannot be rendered, now or then; why not then")
    mended: Names = Field(description="those that cannot be rendered now, and could then")
    added: Names = Field(description="those that the change adds")
    sealed: Names = Field(description="those with a build under way, which keeps what it was sealed with")
    seconds: RadiusSeconds


class Rehearsable(View):
    """An object as a change of it answers: a rehearsed one adds what it would do to machines."""

    radius: Radius | None = Field(
        None, description="only in the answer to `X-Dry-Run: true`, where machines depend on what would change"
    )


class Rehearsed(View):
    """The answer to a rehearsed change that else answers nothing."""

    radius: Radius

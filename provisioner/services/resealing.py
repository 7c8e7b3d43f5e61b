"""What changed since a build was sealed: a look at it, and sealing again while the machine has not asked for it."""

import zlib
from dataclasses import replace
from typing import Any

from provisioner.core.includes import Includes
from provisioner.core.lifecycle import ENDED, Phase
from provisioner.errors import IllegalTransition, NotFound, ProvisionerError
from provisioner.services import arming, sealing
from provisioner.services.arming import find_build, sealed_files
from provisioner.services.lives import phase
from provisioner.services.resolve import BuildRequest, Gathered, gather
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read
from provisioner.store.models import Build


def changed(site: Site, build_id: int) -> dict[str, Any]:
    """What a build that has not ended was sealed from and is another now. Nothing is rendered: it is quick.

    ``inputs`` name the objects (``profile rocky9``) that differ; empty where nothing did. ``again`` says whether the
    build can still be sealed anew: it is armed, and the machine has not asked for it. ``error`` is why a build of
    today would not be possible, or None.
    """
    with read(site.engine) as session:
        build = find_build(session, build_id)
        told: dict[str, Any] = {"inputs": [], "again": False, "error": None}
        if build.machine is None or phase(build) in ENDED or "repeats" in build.sealed:
            return told  # a repeated build was sealed from old files on purpose
        told["again"] = phase(build) is Phase.ARMED
        try:
            told["inputs"] = _differing(build, gather(session, build.machine, request_of(build)))
        except ProvisionerError as error:
            told["error"] = error
        return told


def _differing(build: Build, today: Gathered) -> list[str]:
    """The names of the inputs that are others now; of templates those alone that the build's files are made of."""
    then = build.sealed["inputs"]
    reached = Includes(today.sources).reached_by(sealing.wanted(today).values())
    names = sorted({*then, *today.inputs})
    return [
        name
        for name in names
        if then.get(name) != today.inputs.get(name)
        and (not name.startswith("template ") or name.removeprefix("template ") in reached)
    ]


def difference(site: Site, build_id: int) -> str:
    """The sealed files beside those that the same build would be sealed with now, as a unified diff; tokens masked.

    Raises NotFound where the machine is gone, and what arming would raise.
    """
    with read(site.engine) as session:
        build = find_build(session, build_id)
        if build.machine is None:
            raise NotFound(f"{build.machine_name} was removed", hint="its builds stay as they were sealed")
        machine, number, request = build.machine.name, build.number, request_of(build)
        then = {each.name: zlib.decompress(each.content).decode() for each in sealed_files(session, build)}
    before = arming.masked(site, then, build.sealed["interfaces"])
    after = arming.preview(site, machine, request, number=number)
    return arming.compared(before, after, "sealed", "now")


def again(site: Site, actor: Actor, build_id: int) -> dict[str, Any]:
    """Arm a build from what is there now in the place of one that is armed, with what was asked for that one alone.

    The old one is cancelled in the same transaction. Raises IllegalTransition once the machine has asked for it, and
    what arming raises; the old one stays armed then.
    """
    with read(site.engine) as session:
        build = find_build(session, build_id)
        _refuse_begun(build)
        assert build.machine is not None  # noqa: S101 - an armed build's machine cannot be removed
        name, request = build.machine.name, replace(request_of(build), instead_of=build.id)
    return arming.start(site, actor, name, request)


def _refuse_begun(build: Build) -> None:
    if phase(build) is not Phase.ARMED:
        raise IllegalTransition(
            f"build {build.number} of {build.machine_name} is {build.state}; only an armed one can be sealed again",
            hint=f"see `provisioner build show {build.machine_name}`",
        )


def request_of(build: Build) -> BuildRequest:
    """What somebody asked for this build alone."""
    asked = build.sealed["request"]
    return BuildRequest(asked["parameters"], asked["kernel_options"])

"""Plans: what a file or a change of many machines would do, looked at before it is done whole or not at all."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import Response, request

from provisioner.core import importing
from provisioner.core.importing import Imported
from provisioner.errors import InvalidInput, MalformedContent, ProvisionerError
from provisioner.services import plans, radius
from provisioner.web.ui import login, reviews
from provisioner.web.ui.pages import Pages, Visit, path

pages = Pages()
LONGEST = 40 << 20
MOST_RENDERED = 1000
"""Of so many machines the answer files are compared while somebody waits."""
_EDITABLE = 400_000
"""Characters of a file that are put into the form to be mended there."""
_SUFFIXES = {"csv": "csv", "yaml": "yaml", "yml": "yaml", "json": "json"}


@pages.get("/machines:import", "machines", verb="write")
def ask(visit: Visit) -> Response:
    """The form: a file, or pasted text."""
    return _form(visit, {"text": "", "form": "", "flag_missing": ""})


@pages.post("/machines:import", "machines", longest_body=LONGEST)
def plan(visit: Visit) -> Response:
    """Make a plan of what was sent, and show it; or show the form again with what is wrong, and all that was sent."""
    typed = {key: visit.field(key) for key in ("text", "form", "flag_missing")}
    file = request.files.get("file")
    name = file.filename if file is not None and file.filename else ""
    try:
        data = file.read() if file is not None and name else typed["text"].encode()
        if name and len(data) <= _EDITABLE:
            typed["text"] = data.decode(errors="replace").replace("\r\n", "\n")
        imported = _read(data, name, typed["form"])
        told = plans.plan(
            visit.site, visit.actor, imported.machines, flag_missing=typed["flag_missing"].strip() or None
        )
    except ProvisionerError as error:
        return _form(visit, typed, error=error, name=name)
    if told["refused"]:
        return _form(visit, typed, told=told, places=imported.places, name=name)
    return visit.redirect(path("machines:plans", told["id"]))


@pages.get("/machines:plans/<uid>", "machines")
def show(visit: Visit, uid: str) -> Response:
    """A plan: what it adds and changes, alike changes together."""
    return _plan(visit, uid)


@pages.post("/machines:plans/<uid>", "machines")
def apply(visit: Visit, uid: str) -> Response:
    """Carry it out."""
    try:
        done = plans.apply(visit.site, visit.actor, plan_id=uid)
    except ProvisionerError as error:
        return _plan(visit, uid, error)
    back = login.local(visit.field("back") or "/machines")
    if done["again"]:
        return visit.redirect(back, "This plan was carried out before; nothing was changed now.")
    counts = [(len(done["created"]), "added"), (len(done["changed"]), "changed")]
    said = " and ".join(f"{machines(count)} {what}" for count, what in counts if count) or "Nothing to change"
    changed = [*done["created"], *done["changed"]]
    if len(changed) == 1:
        return visit.redirect(back, f"{said}.", href=path("machines", changed[0]), link=changed[0])
    return visit.redirect(back, f"{said}.", href="/machines?sort=-updated_at", link="Show the machines changed last")


@pages.get("/machines:plans/<uid>/radius", "machines", verb="write")
def differences(visit: Visit, uid: str) -> Response:
    """What it would do to the answer files of its machines."""
    watch = radius.Watch(visit.site)
    plans.apply(visit.site.rehearsing(watch), visit.actor, plan_id=uid)
    return visit.render("plans/radius.html", told=reviews.reached(visit, watch))


def machines(count: int) -> str:
    """``1 machine``, ``30 machines``."""
    return f"{count:,} machine{'' if count == 1 else 's'}"


def grouped(changed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Machines that change alike, together: ``names`` and ``changes``; the most first."""
    groups: dict[str, dict[str, Any]] = {}
    for each in changed:
        changes = _words_together(each["changes"])
        key = json.dumps(changes, sort_keys=True)
        groups.setdefault(key, {"names": [], "changes": changes})["names"].append(each["name"])
    return sorted(groups.values(), key=lambda group: -len(group["names"]))


def _words_together(changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The changes, with those of tags as the words that go and come: at which place each stands says nothing."""
    moved = [each for each in changes if each["pointer"].startswith("/tags")]
    gone, come = (_tags(each[side] for each in moved) for side in ("before", "after"))
    told = [dict(each) for each in changes if each not in moved]
    if moved:
        words = {"before": " ".join(sorted(gone - come)) or None, "after": " ".join(sorted(come - gone)) or None}
        told.append({"pointer": "/tags"} | words)
    return told


def _tags(sides: Iterable[Any]) -> set[str]:
    return {word for side in sides if side for word in (side if isinstance(side, list) else [side])}


def _plan(visit: Visit, uid: str, error: ProvisionerError | None = None) -> Response:
    told = plans.show(visit.site, uid)
    given = visit.field("back") if request.method == "POST" else visit.arg("back")
    touched = len(told["created"]) + len(told["changed"])
    return visit.render(
        "plans/show.html",
        error.status if error else 200,
        told=told,
        groups=grouped(told["changed"]),
        touched=touched,
        renders=0 < touched <= MOST_RENDERED,
        back=login.local(given or "/machines"),
        reason=visit.field("reason") if request.method == "POST" else "",
        error=error,
    )


def _form(
    visit: Visit,
    typed: Mapping[str, str],
    *,
    error: ProvisionerError | None = None,
    told: Mapping[str, Any] | None = None,
    places: Sequence[str] = (),
    name: str = "",
) -> Response:
    if isinstance(error, InvalidInput) and error.where in ("", "/machines"):
        error.where = "text"
    return visit.render(
        "plans/import.html",
        error.status if error else 409 if told else 200,
        typed=typed,
        error=error,
        told=told,
        places=places,
        name=name,
        lost=bool(name) and not typed["text"],
        formats=importing.FORMATS,
        shell=shlex.quote(name or "machines.csv"),
    )


def _read(data: bytes, name: str, form: str) -> Imported:
    """The machines that were sent. Raises MalformedContent, TooLarge."""
    if not data.strip():
        raise InvalidInput("there is nothing in it", where="text", hint="choose a file, or paste its lines here")
    form = form if form in importing.FORMATS else _SUFFIXES.get(name.rpartition(".")[2].lower(), "") or _guess(data)
    try:
        return importing.read(data, form, name or "line")
    except MalformedContent as error:
        error.message = f"{error.message} ({error.where})"
        error.where = "text"
        raise


def _guess(data: bytes) -> str:
    """What pasted text is: JSON begins with a bracket, YAML with a dash or a key, CSV with a line of columns."""
    head = data.lstrip(b"\xef\xbb\xbf \t\r\n")
    first = head.partition(b"\n")[0].strip()
    if head[:1] in (b"[", b"{"):
        return "json"
    return "yaml" if first.startswith((b"-", b"#")) or first.endswith(b":") else "csv"

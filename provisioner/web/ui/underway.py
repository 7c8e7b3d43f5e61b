"""How far the work is that a page waits for: its script asks here, by the name that it gave the work."""

from flask import Response

from provisioner.services import underway
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_BYTES = 1 << 16
"""What counts beyond so many is bytes, not machines."""


@pages.get("/underway/<name>", None)
def show(visit: Visit, name: str) -> Response:
    """A few words; none where nothing is known."""
    step = underway.step(visit.site, name)
    return Response("" if step is None else words(step), content_type="text/plain; charset=utf-8")


def words(step: underway.Step) -> str:
    """``Rendered: 750 of 2,000 (37 %)``."""
    begin = f"{step.what[:1].upper()}{step.what[1:]}"
    if step.total <= 0:
        return f"{begin}: {_amount(step.done, step.done)}"
    part = min(100, step.done * 100 // step.total)
    return f"{begin}: {_amount(step.done, step.total)} of {_amount(step.total, step.total)} ({part} %)"


def _amount(number: int, largest: int) -> str:
    return f"{number / 1_000_000:,.1f} MB" if largest > _BYTES else f"{number:,}"

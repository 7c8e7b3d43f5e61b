"""Profiles, templates, distros and images."""

from typing import Any

from provisioner.errors import (
    AnswerInvalid,
    MediaMissing,
    MissingParameter,
    NameTaken,
    ParentCycle,
    RenderLimit,
    StillInUse,
    TemplateError,
    Unavailable,
    UnknownReference,
)
from provisioner.services import asof, catalogue, installables, listing, profiles, templates
from provisioner.services.installables import DistroInput, ImageInput
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.common import PageQuery, Rename
from provisioner.web.api.shapes.content import (
    DistroBody,
    DistroChange,
    DistroPage,
    DistroView,
    ImageBody,
    ImageChange,
    ImagePage,
    ImageView,
    ProfileBody,
    ProfileChange,
    ProfilePage,
    ProfileView,
    TemplateBody,
    TemplateChange,
    TemplatePage,
    TemplateView,
)
from provisioner.web.api.shapes.machines import AsOf

operations = Operations()
_PROFILE = (UnknownReference, ParentCycle, TemplateError, AnswerInvalid, MissingParameter, RenderLimit)


@operations.add("GET", "/profiles", noun="profiles", query=PageQuery, answer=ProfilePage)
def list_profiles(call: Call) -> Any:
    """List profiles."""
    return listing.page(call.site, "profiles", **call.query.given())


@operations.add(
    "POST",
    "/profiles",
    noun="profiles",
    body=ProfileBody,
    answer=ProfileView,
    status=201,
    errors=(NameTaken, *_PROFILE),
)
def add_profile(call: Call) -> Any:
    """Add a profile."""
    return profiles.add(call.site, call.actor, call.body.given())


@operations.add("GET", "/profiles/{name}", noun="profiles", query=AsOf, answer=ProfileView)
def show_profile(call: Call) -> Any:
    """Show a profile; what it inherits is null."""
    if call.query.as_of:
        return asof.profile(call.site, call.names["name"], call.query.as_of)
    return profiles.show(call.site, call.names["name"])


@operations.add(
    "PATCH", "/profiles/{name}", noun="profiles", body=ProfileChange, answer=ProfileView, match=True, errors=_PROFILE
)
def change_profile(call: Call) -> Any:
    """Change a profile: the fields that are sent. Sealed builds do not change."""
    return profiles.edit(call.site, call.actor, call.names["name"], call.body.given(), expect=call.expect)


@operations.add("DELETE", "/profiles/{name}", noun="profiles", match=True, errors=(StillInUse,))
def remove_profile(call: Call) -> None:
    """Remove a profile that nothing refers to."""
    profiles.remove(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/profiles/{name}:rename", noun="profiles", body=Rename, answer=ProfileView, match=True, errors=(NameTaken,)
)
def rename_profile(call: Call) -> Any:
    """Give a profile another name; children and machines follow."""
    return profiles.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("GET", "/templates", noun="templates", query=PageQuery, answer=TemplatePage)
def list_templates(call: Call) -> Any:
    """List templates and snippets, without their texts."""
    return listing.page(call.site, "templates", **call.query.given())


@operations.add(
    "POST", "/templates", noun="templates", body=TemplateBody, answer=TemplateView, status=201, errors=(NameTaken,)
)
def add_template(call: Call) -> Any:
    """Add a template or snippet.

    A text that fails is kept as `draft`, with its `problems`; no build can be armed with it.
    """
    return templates.add(call.site, call.actor, call.body.name, call.body.text)


@operations.add("GET", "/templates/{kind}/{name}", noun="templates", answer=TemplateView)
def show_template(call: Call) -> Any:
    """Show a template with its text."""
    return templates.show(call.site, _template(call))


@operations.add(
    "PUT", "/templates/{kind}/{name}", noun="templates", body=TemplateChange, answer=TemplateView, match=True
)
def change_template(call: Call) -> Any:
    """Replace a template's text. What builds were sealed with does not change.

    A text that does not parse, or fails for a profile that it reaches, is kept as `draft`, with its `problems`; the
    last good `text` stays in force. A good text clears the draft.
    """
    return templates.edit(call.site, call.actor, _template(call), call.body.text, expect=call.expect)


@operations.add("DELETE", "/templates/{kind}/{name}", noun="templates", match=True, errors=(StillInUse,))
def remove_template(call: Call) -> None:
    """Remove a template that no profile names and no template includes."""
    templates.remove(call.site, call.actor, _template(call), expect=call.expect)


@operations.add(
    "POST",
    "/templates/{kind}/{name}:rename",
    noun="templates",
    body=Rename,
    answer=TemplateView,
    match=True,
    errors=(NameTaken, StillInUse),
)
def rename_template(call: Call) -> Any:
    """Give a template that nothing names another name, KIND/NAME."""
    return templates.rename(call.site, call.actor, _template(call), call.body.name, expect=call.expect)


def _template(call: Call) -> str:
    return f"{call.names['kind']}/{call.names['name']}"


@operations.add("GET", "/distros", noun="distros", query=PageQuery, answer=DistroPage)
def list_distros(call: Call) -> Any:
    """List distros."""
    return listing.page(call.site, "distros", **call.query.given())


@operations.add(
    "POST",
    "/distros",
    noun="distros",
    body=DistroBody,
    answer=DistroView,
    status=201,
    errors=(NameTaken, MediaMissing, Unavailable),
)
def add_distro(call: Call) -> Any:
    """Add a distro: its kernel, initrd and further files are fetched first; for `X-Dry-Run: true` too, and let go."""
    fields = call.body.given()
    return installables.add_distro(call.site, call.actor, fields.pop("name"), DistroInput(**fields))


@operations.add("GET", "/distros/{name}", noun="distros", answer=DistroView)
def show_distro(call: Call) -> Any:
    """Show a distro."""
    return catalogue.distro(call.site, call.names["name"])


@operations.add(
    "PATCH",
    "/distros/{name}",
    noun="distros",
    body=DistroChange,
    answer=DistroView,
    match=True,
    errors=(MediaMissing, Unavailable),
)
def change_distro(call: Call) -> Any:
    """Change a distro: the fields that are sent."""
    change = call.body.given()
    return installables.edit_distro(call.site, call.actor, call.names["name"], change, expect=call.expect)


@operations.add("DELETE", "/distros/{name}", noun="distros", match=True, errors=(StillInUse,))
def remove_distro(call: Call) -> None:
    """Remove a distro that no profile names; its files stay for the builds sealed with them."""
    catalogue.remove_distro(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST",
    "/distros/{name}:rename",
    noun="distros",
    body=Rename,
    answer=DistroView,
    match=True,
    errors=(NameTaken, StillInUse),
)
def rename_distro(call: Call) -> Any:
    """Give a distro that no profile names another name."""
    return catalogue.rename_distro(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("GET", "/images", noun="images", query=PageQuery, answer=ImagePage)
def list_images(call: Call) -> Any:
    """List images."""
    return listing.page(call.site, "images", **call.query.given())


@operations.add(
    "POST",
    "/images",
    noun="images",
    body=ImageBody,
    answer=ImageView,
    status=201,
    errors=(NameTaken, MediaMissing, Unavailable),
)
def add_image(call: Call) -> Any:
    """Add an image: its file is fetched first; for `X-Dry-Run: true` too, and let go."""
    fields = call.body.given()
    return installables.add_image(call.site, call.actor, fields.pop("name"), ImageInput(**fields))


@operations.add("GET", "/images/{name}", noun="images", answer=ImageView)
def show_image(call: Call) -> Any:
    """Show an image."""
    return catalogue.image(call.site, call.names["name"])


@operations.add(
    "PATCH",
    "/images/{name}",
    noun="images",
    body=ImageChange,
    answer=ImageView,
    match=True,
    errors=(MediaMissing, Unavailable),
)
def change_image(call: Call) -> Any:
    """Change an image: the fields that are sent."""
    change = call.body.given()
    return installables.edit_image(call.site, call.actor, call.names["name"], change, expect=call.expect)


@operations.add("DELETE", "/images/{name}", noun="images", match=True, errors=(StillInUse,))
def remove_image(call: Call) -> None:
    """Remove an image that no profile names; its file stays for the builds sealed with it."""
    catalogue.remove_image(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST",
    "/images/{name}:rename",
    noun="images",
    body=Rename,
    answer=ImageView,
    match=True,
    errors=(NameTaken, StillInUse),
)
def rename_image(call: Call) -> Any:
    """Give an image that no profile names another name."""
    return catalogue.rename_image(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)

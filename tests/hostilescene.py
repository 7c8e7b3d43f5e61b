"""An installation in which every string that a stranger or a colleague can put somewhere is hostile (S54)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from played import Played
from world import ACTOR, World

from provisioner.services import (
    arming,
    builds,
    installables,
    machines,
    people,
    plans,
    profiles,
    records,
    templates,
    tokens,
    webhooks,
)
from provisioner.services.installables import ImageInput
from provisioner.services.site import Actor, Site

MARK = "xss"
PAYLOADS = (
    "<svg onload=alert('xss')>",
    "\"><img src=x onerror=alert('xss')>",
    "'><script>alert('xss')</script>",
    "javascript:alert('xss')",
    "{{7*7}}xss{% raw %}",
    "xss\u202egnp.exe",
    "\x1b[31mxss\x1b[0m",
    "</textarea></script></title><svg/onload=alert('xss')>",
)
ALL = " ".join(PAYLOADS)


@dataclass(frozen=True)
class Scene:
    """What pages can be opened for: by the beginning of an address, the names that stand in it."""

    names: dict[str, dict[str, str]]


def hostile(site: Site, served: Any, place: Path) -> Scene:
    """Fill a served installation, whose subnet is `lab` and distro `rocky-9.6`."""
    world = World(site, place)
    who = Actor(ALL[:120], "tests", reason=ALL)
    for number, payload in enumerate(PAYLOADS):
        fields: dict[str, Any] = {"description": payload, "parameters": {"motd": payload, "list": [payload]}}
        fields |= {"serial": f"{number}{payload}"[:200]} if payload.isprintable() else {}
        world.machine(f"evil{number}", f"52:54:00:ee:00:{number:02x}", f"127.0.2.{30 + number}", **fields)
    machines.edit(site, who, "evil1", {"description": f"{ALL} again"})
    profiles.add(site, who, {"name": "evil", "parent": "rocky9", "description": ALL, "parameters": {"motd": ALL}})
    templates.add(site, who, "snippets/evil.sh.j2", f"# {ALL}\n".replace("{", "(").replace("}", ")"))
    people.add(site, who, "evil", {"role": "viewer", "password": "correct horse battery"})
    tokens.add(site, who, "evil", "evil-token", {})
    (place / "base.raw.gz").write_bytes(b"image")
    installables.add_image(site, who, "base", ImageInput(str(place / "base.raw.gz"), "debian", "12"))
    webhooks.add(site, who, "evil-hook", {"url": "http://192.0.2.1/hook"})
    played = Played(served, site, "evil0", "52:54:00:ee:00:00", "127.0.2.30")
    played.arm()
    told = played.tokens()
    for kind, form in (("packages", {"message": ALL}), ("failed", {"message": ALL, "log": ALL * 50})):
        assert played.event(told["event"], kind, **form).status < 300
    arming.start(site, ACTOR, "evil1")
    builds.cancel(site, who, "evil1")
    build = arming.start(site, ACTOR, "evil1")
    strange = "52:54:00:ee:01:00"
    query = dict.fromkeys(("serial", "manufacturer", "product", "asset"), ALL[:200]) | {"platform": "pcbios"}
    for payload in PAYLOADS:
        query["asset"] = payload
        assert served.http(f"/boot/ipxe/{strange}?{urlencode(query)}", source="127.0.2.90").status == 200
    plan = plans.plan(site, who, [{"name": "evil2", "description": ALL}])
    return Scene(
        {
            "": {},
            "/machines/": {"name": "evil1"},
            "/machines:plans/": {"uid": plan["id"]},
            "/machines:states": {"?": "?ids=1,2,3"},
            "/builds/": {"number": str(build["id"])},
            "/profiles/": {"name": "evil", "number": _newest(site, "profile/evil")},
            "/templates/": {
                "kind": "snippets",
                "name": "evil.sh.j2",
                "number": _newest(site, "template/snippets/evil.sh.j2"),
            },
            "/networks/": {"name": "lab"},
            "/distros/": {"name": "rocky-9.6"},
            "/images/": {"name": "base"},
            "/users/": {"name": "evil"},
            "/tokens/": {"name": "evil-token"},
            "/webhooks/": {"name": "evil-hook"},
            "/rack/new/": {"mac": strange},
            "/rack/machine/": {"name": "evil0"},
            "/history/": {"number": _newest(site, "machine/evil1")},
            "/help/": {"page": "api"},
            "/underway/": {"name": "0" * 32},
        }
    )


def _newest(site: Site, thing: str) -> str:
    return str(records.listing(site, thing)[0]["id"])

"""Templates as people look at them: which profiles build with each, and how they include each other."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.includes import Includes, references
from provisioner.core.names import SNIPPETS, TEMPLATE_KINDS, template_kind
from provisioner.services import objects, templates
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Profile, Template

KINDS = (*TEMPLATE_KINDS, SNIPPETS)
SEED = ("meta-data", "vendor-data", "network-config")
"""What an autoinstall's seed has besides its user-data; see `sealing.wanted`."""
_BLOCK = re.compile(r"\{%[-+]?\s*block\s+(\w+)")


def listing(site: Site, q: str = "", kind: str = "") -> list[dict[str, Any]]:
    """Every template, by kind: as `templates.item`, with ``profiles``, how many render it or what it is a part of.

    With ``q`` those whose name or text has it, whatever the case; with ``kind`` those of that kind.
    """
    with read(site.engine) as session:
        found = [(templates.item(each), each.text, each.draft or "") for each in objects.listing(session, Template)]
        mains = _mains(session)
    includes = Includes({item["name"]: text for item, text, _ in found})
    reached = Counter(name for main in mains.values() for name in _rendered(includes, main))
    wanted = q.lower()
    rows = [
        item | {"profiles": reached[item["name"]]}
        for item, text, draft in found
        if (not kind or item["kind"] == kind)
        and (not wanted or any(wanted in each.lower() for each in (item["name"], text, draft)))
    ]
    return sorted(rows, key=lambda row: (KINDS.index(row["kind"]), row["name"]))


def shown(site: Site, name: str) -> dict[str, Any]:
    """One template as `templates.show`, and what stands around it. Raises NotFound.

    ``named_by``: the profiles that name it; ``rendered_by``: all that render it, with what they inherit, or through
    another template; ``includes`` and ``included_by``: templates, by what their texts say; ``blocks`` that a template
    which extends it may fill.
    """
    found = templates.show(site, name)
    with read(site.engine) as session:
        sources = {each.name: each.text for each in session.execute(select(Template.name, Template.text))}
        named = session.scalars(select(Profile.name).where(Profile.template == name).order_by(Profile.name)).all()
        mains = _mains(session)
    includes = Includes(sources)
    text = found["text"] or found["draft"] or ""
    return found | {
        "named_by": list(named),
        "rendered_by": sorted(each for each, main in mains.items() if name in _rendered(includes, main)),
        "includes": sorted((references(text) or frozenset()) - {name}),
        "included_by": sorted(
            other for other in sources if other != name and name in (references(sources[other]) or ())
        ),
        "blocks": list(dict.fromkeys(_BLOCK.findall(text))),
    }


def _mains(session: Session) -> Mapping[str, str | None]:
    """The template that each profile names or inherits."""
    profiles = {each.name: each for each in session.scalars(select(Profile))}
    found: dict[str, str | None] = {}
    for name, profile in profiles.items():
        current: Profile | None = profile
        while current is not None and current.template is None:
            current = current.parent
        found[name] = current.template if current else None
    return found


def _rendered(includes: Includes, main: str | None) -> frozenset[str]:
    """All that a profile with this template renders. Those of Ubuntu share the other files of their seed."""
    if main is None:
        return frozenset()
    seed = [f"autoinstall/{name}.j2" for name in SEED] if template_kind(main) == "autoinstall" else []
    return includes.reached_by([main, *seed])


def starter(name: str, text: str) -> str:
    """A template that extends this one, with its blocks to fill; see docs/templates.md."""
    blocks = list(dict.fromkeys(_BLOCK.findall(text)))
    if not blocks:
        return f'{{% include "{name}" %}}\n'
    filled = "".join(f"{{% block {block} %}}\n{{{{ super() }}}}\n{{% endblock %}}\n" for block in blocks)
    advice = "{## Keep the blocks that you want to add to, and take the others out. ##}"
    return f'{{% extends "{name}" %}}\n{advice}\n{filled}'

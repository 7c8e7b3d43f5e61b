"""Templates whose newest text fails: what is rendered in their place."""

from typing import Any


def in_force(name: str, text: str, draft: str | None) -> str:
    """The source that is rendered: the last good text, or, while there never was one, a text that ends with an error.

    So whoever includes such a template, or arms a build with it, is told what it is and where to look.
    """
    if text or draft is None:
        return text
    return (
        f'{{{{ fail("{name} has only a draft, which fails and is not served: `provisioner template show {name}`") }}}}'
    )


def of_snapshot(template: dict[str, Any]) -> str:
    """The same of a template's snapshot."""
    return in_force(template["name"], template["text"], template.get("draft"))

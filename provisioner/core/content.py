"""Profiles as files: the shape of the YAML, read strictly."""

from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provisioner.core.markers import refuse_markers
from provisioner.core.names import object_name, parameter_name, template_name
from provisioner.core.parameters import check_kernel_options, check_plain
from provisioner.errors import MalformedContent, ProvisionerError

_LONG, _MANY, _DEEPEST = 1 << 16, 50, 200


class Selector(BaseModel):
    """Which distro or image: by name, or the newest that fits."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = None
    os: str | None = None
    version: str | None = None
    arch: str | None = None
    kind: str | None = None

    def plain(self) -> dict[str, str]:
        """Only what is given."""
        return self.model_dump(exclude_none=True)


class ProfileContent(BaseModel):
    """A profile as people write it; what is left out is inherited from the parent."""

    model_config = ConfigDict(extra="forbid")
    name: str
    parent: str | None = None
    description: str = ""
    distro: Selector | str | None = None
    image: Selector | str | None = None
    template: str | None = None
    kernel_options: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    handoff: dict[str, Any] | None = None
    local_boot: str | None = None
    tested_with: str = ""

    def fields(self) -> dict[str, Any]:
        """The content as the store keeps it, all but name and parent."""
        return {
            "description": self.description,
            "distro": _selector(self.distro),
            "image": _selector(self.image),
            "template": self.template,
            "kernel_options": self.kernel_options,
            "parameters": self.parameters,
            "handoff": self.handoff,
            "local_boot": self.local_boot,
            "tested_with": self.tested_with,
        }


def _selector(value: Selector | str | None) -> dict[str, str] | None:
    if isinstance(value, str):
        return {"name": value}
    return None if value is None else value.plain()


class _Once:
    """Refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[attr-defined]
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", key_node.start_mark)
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)  # type: ignore[misc]
        return found


class _StrictLoader(_Once, yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys and aliases, which have no place in a profile and carry bombs."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise _alias(self.peek_event())  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


class _FastLoader(_Once, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by libyaml, where it is there; aliases are refused before, since it composes them by itself."""


def _alias(event: Any) -> yaml.YAMLError:
    return _refused("aliases are not allowed", event)


def _refused(problem: str, event: Any) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, problem, event.start_mark)


def _load(text: str) -> Any:
    if len(text) < _LONG:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    depth = 0
    for event in yaml.parse(text, Loader=_FastLoader):
        if isinstance(event, yaml.events.AliasEvent):
            raise _alias(event)
        # libyaml's time grows with the square of the depth: minutes for a megabyte of brackets.
        depth += isinstance(event, yaml.events.CollectionStartEvent) - isinstance(event, yaml.events.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _refused(f"nested deeper than {_DEEPEST}", event)
    return yaml.load(text, Loader=_FastLoader)  # noqa: S506 - a SafeLoader


class _Twice:
    """Writes a value that stands twice twice, since aliases would be refused."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


class _PlainDumper(_Twice, yaml.SafeDumper):
    """For what people read."""


class _FastDumper(_Twice, getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """For what is long."""


def load_yaml(text: str, where: str, *, most: int = 1 << 20) -> Any:
    """The YAML as plain data. Raises MalformedContent that names file and line."""
    if len(text) > most:
        raise MalformedContent(f"larger than {most >> 20} MiB", where=where, hint="nothing of ours is as large")
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MalformedContent(
            f"broken YAML: {error.problem}", where=f"{where}:{line}", hint="mend the file at this line"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's constructors of tagged scalars trust their text: `!!int ''`, `!!bool x`, `!!timestamp x`.
        raise MalformedContent(f"broken YAML: {error}", where=where, hint="mend the file") from error


def parse_profile(text: str, where: str) -> ProfileContent:
    """A profile from its YAML. Raises MalformedContent or MalformedName that names file, line or key."""
    data = load_yaml(text, where)
    if not isinstance(data, dict):
        raise MalformedContent("not a mapping", where=where, hint="begin with `name: ...`")
    return check_profile(data, where, text)


def check_profile(data: dict[str, Any], where: str, text: str = "") -> ProfileContent:
    """A profile from plain data, each value checked."""
    try:
        content = ProfileContent.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        said = "there is no such key" if first["type"] == "extra_forbidden" else first["msg"]
        raise MalformedContent(
            f"{key}: {said}",
            where=place(where, text, str(first["loc"][0]) if first["loc"] else ""),
            hint=f"a profile has the keys {', '.join(ProfileContent.model_fields)}",
        ) from error
    try:
        _check_values(content)
    except ProvisionerError as error:
        error.where = place(where, text, error.where or "name")
        raise
    return content


def _check_values(content: ProfileContent) -> None:
    object_name(content.name)
    for name in content.parameters:
        parameter_name(name)
    for key in ("parameters", "handoff", "description", "tested_with"):
        refuse_markers(getattr(content, key), key)
        check_plain(getattr(content, key), key)
    check_kernel_options(content.kernel_options, "kernel_options")
    if content.template is not None:
        template_name(content.template)
    if content.distro is not None and content.image is not None:
        raise MalformedContent("a profile has a distro or an image, not both", where="image", hint="leave one out")


def place(where: str, text: str, key: str) -> str:
    """``where`` with the line on which the top-level key stands, if it does."""
    for number, line in enumerate(text.splitlines(), 1):
        if key and line.startswith(f"{key}:"):
            return f"{where}:{number}"
    return f"{where} {key}".strip() if not text else where


def dump_profile(content: dict[str, Any]) -> str:
    """A profile's snapshot as YAML that `parse_profile` reads back; what is empty is left out."""
    kept = {key: value for key, value in content.items() if value not in (None, {}, [], "")}
    for key in ("distro", "image"):
        if isinstance(kept.get(key), dict) and set(kept[key]) == {"name"}:
            kept[key] = kept[key]["name"]
    return dump_yaml(kept)


def dump_yaml(data: Any) -> str:
    """Plain data as YAML that `load_yaml` reads back the same."""
    dumper = _FastDumper if isinstance(data, list) and len(data) > _MANY else _PlainDumper
    text = yaml.dump(data, Dumper=dumper, sort_keys=False, allow_unicode=True)
    if set(text) & set("\x85\u2028\u2029"):
        # YAML folds lines at these, so that they would come back as line ends or spaces.
        text = yaml.dump(data, Dumper=dumper, sort_keys=False)
    return text

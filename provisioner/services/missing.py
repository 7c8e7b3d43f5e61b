"""A parameter that no level gives: which levels were looked at, and where to set it."""

import difflib

from provisioner.errors import MissingParameter, ProvisionerError
from provisioner.services.resolve import Gathered


def told(error: ProvisionerError, gathered: Gathered, *, made_up: bool = False) -> ProvisionerError:
    """The error of a template; of a missing parameter, with the levels that were looked at, and a hint with names.

    ``made_up``: the machine is a sample, so only what its profile inherits says anything.
    """
    name = str(error.details.get("variable", ""))
    scope, _, parameter = name.partition(".")
    if not isinstance(error, MissingParameter) or scope != "parameters":
        return error
    parameter = parameter.partition(".")[0].partition("[")[0]
    given = gathered.resolved.parameters.get(parameter)
    if given is not None:
        message = f"{error.message}, and {given.source} gives {parameter}"
        hint = f"{parameter} comes from {given.source}: add the key there, or guard it with `is defined`"
        return MissingParameter(message, where=error.where, hint=hint, **error.details)
    levels = [level for level in gathered.resolved.levels if not made_up or level.startswith(("built-in", "profile "))]
    message = f"{error.message}; looked at {', '.join(levels)}"
    return MissingParameter(
        message, where=error.where, hint=_hint(parameter, gathered, made_up), levels=levels, **error.details
    )


def _hint(parameter: str, gathered: Gathered, made_up: bool) -> str:
    option = f"--param {parameter}=VALUE"
    hint = f"`provisioner profile edit {gathered.profile['name']} {option}`"
    if not made_up:
        hint = f"`provisioner machine edit {gathered.machine['name']} {option}`, or for all {hint}"
    near = difflib.get_close_matches(parameter, list(gathered.resolved.parameters), n=2)
    return f"did you mean {' or '.join(near)}? Else {hint}" if near else hint

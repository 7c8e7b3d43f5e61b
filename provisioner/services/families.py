"""How far the answer files of each family are proved on this server: by the family's own tool, or by our own check."""

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.core.firmware import FAMILIES, STRUCTURAL, TIERS, VALIDATED
from provisioner.render import validate


@dataclass(frozen=True)
class Tier:
    """What stands between a mistake in an answer file and the machine's console."""

    family: str
    tier: str
    """``validated`` or ``structure-checked``, as it is here."""
    missing: str = ""
    """The program that would validate it, and is not installed."""
    remedy: str = ""
    """How to get that program."""


def tiers() -> dict[str, Tier]:
    """The tier of every family. One whose tool is missing here is ``structure-checked`` until it is installed."""
    missing = {kind: (program, remedy) for kind, program, remedy in validate.missing_programs()}
    found = {}
    for family, tier in TIERS.items():
        program, remedy = missing.get(family, ("", "")) if tier == VALIDATED else ("", "")
        found[family] = Tier(family, STRUCTURAL if program else tier, program, remedy)
    return found


def tier_of(os: str | None, known: Mapping[str, Tier]) -> Tier | None:
    """The tier of an os's family, of those that `tiers` told; None for an os that has none."""
    return known.get(FAMILIES.get(os or "", ""))


def missing() -> list[Tier]:
    """The families whose tool is not installed here, each once."""
    return [each for each in tiers().values() if each.missing]

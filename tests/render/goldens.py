"""Golden files: what every shipped profile gives, reviewed once, for each firmware and network."""

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
FIRMWARES = ("bios", "uefi")


def hold(profile: str, firmware: str, links: str, text: str) -> None:
    """Compare with ``golden/PROFILE/FIRMWARE-LINKS.txt``; UPDATE_GOLDEN=1 writes it anew, to be reviewed as a diff."""
    path = GOLDEN / profile / f"{firmware}-{links}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.relative_to(GOLDEN)} differs; UPDATE_GOLDEN=1 writes it, then review it"

"""How machines get to their local disks: their own way, their profile's or the nearest ancestor's, else `auto`.

For one machine that boots it is part of its row in `services.looks`.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.localboot import AUTO
from provisioner.store.models import Interface, Machine, Profile


def exceptions(session: Session) -> dict[str, str]:
    """The machines whose way is not `auto`, by each of their MACs; two statements, however many they are."""
    profiles = {
        id_: (parent, way)
        for id_, parent, way in session.execute(select(Profile.id, Profile.parent_id, Profile.local_boot))
    }
    inherited = {id_: _inherited(id_, profiles) for id_ in profiles}
    odd = [id_ for id_, way in inherited.items() if way != AUTO]
    rows = session.execute(
        select(Interface.mac, Machine.local_boot, Machine.profile_id)
        .join(Machine, Interface.machine_id == Machine.id)
        .where(Interface.mac.is_not(None), Machine.local_boot.is_not(None) | Machine.profile_id.in_(odd))
    )
    ways = {mac: own or inherited.get(profile or 0, AUTO) for mac, own, profile in rows if mac}
    return {mac: way for mac, way in ways.items() if way != AUTO}


def _inherited(profile: int | None, profiles: dict[int, tuple[int | None, str | None]]) -> str:
    asked = set[int]()
    while profile is not None and profile not in asked:
        asked.add(profile)
        profile, way = profiles[profile]
        if way is not None:
            return way
    return AUTO

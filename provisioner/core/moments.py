"""Moments as people and programs write them."""

from datetime import UTC, datetime

from provisioner.errors import InvalidInput


def moment(value: object, where: str) -> datetime:
    """The moment in UTC that an ISO 8601 text means; a day alone is its beginning, no zone is UTC.

    Raises InvalidInput.
    """
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{str(value)[:80]!r} is not a date",
            where=where,
            hint="write it as 2030-12-31 or 2030-12-31T18:00:00Z",
        ) from None

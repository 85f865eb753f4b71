"""What is peculiar to this release."""

VERSION = "1.1.0"

#: The newest migration in this release's image.
SCHEMA_HEAD = "0002"

#: Every so many answers of the API are an error (500); 0 for none.
ERROR_EVERY = 0


def self_check(uptime_seconds: float) -> str | None:
    """One sentence when the release itself knows that it is not well, else None."""
    del uptime_seconds  # only 1.3.0-broken looks at it
    return None

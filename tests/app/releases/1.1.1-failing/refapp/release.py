"""What is peculiar to this release: it is healthy, and answers with an error now and then."""

VERSION = "1.1.1-failing"

#: The newest migration in this release's image.
SCHEMA_HEAD = "0002"

#: Every so many answers of the API are an error (500); 0 for none.
ERROR_EVERY = 20


def self_check(uptime_seconds: float) -> str | None:
    """One sentence when the release itself knows that it is not well, else None."""
    del uptime_seconds  # only 1.3.0-broken looks at it
    return None

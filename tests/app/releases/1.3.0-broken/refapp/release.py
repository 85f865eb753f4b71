"""What is peculiar to this release: it looks well long enough to be switched to, then it is not."""

import os

VERSION = "1.3.0-broken"

#: The newest migration in this release's image.
SCHEMA_HEAD = "0003"

#: Every so many answers of the API are an error (500); 0 for none.
ERROR_EVERY = 0

BREAK_AFTER_SECONDS = float(os.environ.get("BREAK_AFTER_SECONDS", "5"))


def self_check(uptime_seconds: float) -> str | None:
    """One sentence when the release itself knows that it is not well, else None."""
    if uptime_seconds < BREAK_AFTER_SECONDS:
        return None
    return f"Release {VERSION} is broken on purpose since {uptime_seconds - BREAK_AFTER_SECONDS:.0f} s."

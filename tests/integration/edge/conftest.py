"""The edge with a probe behind it, in whatever mode a test wants."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator

import pytest

from ..conftest import EDGE_ALONE, address_of
from ..oidc import HOST
from . import probe


@pytest.fixture(scope="package")
def edge(playbook: Callable[..., t.Any], nuc: t.Any) -> Iterator[Callable[..., t.Any]]:
    """Run the role with the probe routed and other settings; the demo's own come back at the end."""
    nuc.run(f"docker rm --force {probe.NAME}")  # of a run that was killed
    image = nuc.check_output("docker inspect --format '{{.Config.Image}}' flowaudit-blue-backend-1")
    nuc.check_output(
        f"docker run --detach --name {probe.NAME} --network flowaudit-edge --entrypoint python %s -u -c %s",
        image,
        probe.PROGRAM,
    )
    nuc.check_output("echo %s > /etc/flowaudit/edge/dynamic/probe.yml", probe.service())

    # The provider's name is known from the start, as an authority's is: to learn one, the authentication starts again.
    always = {**probe.settings(), "edge_hosts": {HOST: address_of("registry")}}

    def run(*arguments: str, **extra_vars: t.Any) -> t.Any:
        return playbook(EDGE_ALONE, *arguments, **{**always, **extra_vars})

    first = run()
    assert first.returncode == 0, first.stdout
    yield run
    result = playbook(EDGE_ALONE)
    nuc.run(f"rm -f /etc/flowaudit/edge/dynamic/probe.yml; docker rm --force {probe.NAME}")
    assert result.returncode == 0, result.stdout

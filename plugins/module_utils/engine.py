# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The container engine of the host, by its own command line: Compose has no other."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t
from collections.abc import Mapping, Sequence

from .errors import FlowauditError


class Result(t.NamedTuple):
    status: int
    output: str
    errors: str

    @property
    def said(self) -> str:
        """The last lines of what the program had to say, for a sentence."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return " / ".join(line.strip() for line in lines[-3:]) or f"exit status {self.status}"


#: Runs a program: its arguments, seconds until it is ended → its result.
Runner = t.Callable[[Sequence[str], float], Result]


@dataclasses.dataclass(frozen=True)
class Container:
    """A container as it is.

    Attributes:
        state: running, restarting, exited, …, as the engine calls it.
        health: healthy, unhealthy, starting, or empty without a health check.
        image: the reference it was created from.
        addresses: network → its address there.
    """

    name: str
    state: str
    health: str
    image: str
    addresses: Mapping[str, str]

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def stopped(self) -> bool:
        """Whether it stays as it is; one that is restarting may run the next moment."""
        return self.state in ("created", "exited", "dead")

    @property
    def well(self) -> bool:
        return self.running and self.health in ("", "healthy")


class Engine:
    def __init__(self, run: Runner) -> None:
        self._run = run

    def image_labels(self, references: Sequence[str]) -> dict[str, dict[str, str]]:
        """The labels of those images that are here."""
        # One call for all of them: it takes half a second, during which users may be waiting for a rollback.
        form = '{"digests": {{json .RepoDigests}}, "labels": {{json .Config.Labels}}}'
        result = self._run(["docker", "image", "inspect", "--format", form, *references], 60)
        labels: dict[str, dict[str, str]] = {}
        for line in filter(None, result.output.splitlines()):  # of one that is not here, docker prints an empty line
            image = json.loads(line)
            digests = {_plain(each) for each in image["digests"]}
            labels |= {each: image["labels"] or {} for each in references if _plain(each) in digests}
        return labels

    def pull(self, reference: str, seconds: float) -> None:
        """Fetch an image.

        Raises:
            FlowauditError: the registry does not have it, or does not answer.
        """
        result = self._run(["docker", "pull", "--quiet", reference], seconds)
        if result.status != 0:
            raise FlowauditError(f"The image {reference} cannot be pulled: {result.said}")

    def remove_image(self, reference: str) -> bool:
        """Remove an image by its reference; whether it was there and nothing needed it."""
        return self._run(["docker", "image", "rm", reference], 120).status == 0

    def images_in_use(self) -> set[str]:
        """The references of all containers' images, of stopped ones too."""
        result = self._checked(["docker", "ps", "--all", "--no-trunc", "--format", "{{.Image}}"], 60, "List containers")
        return set(result.output.split())

    def containers(self, project: str, services: Sequence[str]) -> dict[str, Container]:
        """Service → its container, for those that have one (Compose names them ``<project>-<service>-1``)."""
        names = {f"{project}-{service}-1": service for service in services}
        result = self._run(["docker", "container", "inspect", *names], 60)
        # An engine that does not answer must not look like one without containers.
        complaints = result.errors.splitlines()
        only_missing = complaints and all("o such container" in line for line in complaints if line)
        if result.status != 0 and not only_missing:
            raise FlowauditError(f"The engine does not tell its containers: {result.said}")
        found = json.loads(result.output or "[]")
        containers = {}
        for each in found:
            name = each["Name"].lstrip("/")
            state, networks = each["State"], each["NetworkSettings"]["Networks"] or {}
            containers[names[name]] = Container(
                name=name,
                state=state["Status"],
                health=(state.get("Health") or {}).get("Status", ""),
                image=each["Config"]["Image"],
                addresses={network: settings["IPAddress"] for network, settings in networks.items()},
            )
        return containers

    def up(self, file: str, services: Sequence[str], wait: float, *, recreate: bool = False) -> None:
        """Start services of a Compose file, and no others, and wait until they are healthy.

        Args:
            recreate: make new containers. Compose gives up at once on one that has become unhealthy.

        Raises:
            FlowauditError: they are not within ``wait`` seconds.
        """
        command = ["up", "--detach", "--no-deps", "--pull", "never", "--wait", "--wait-timeout", str(int(wait))]
        if recreate:
            command.append("--force-recreate")
        # What ends an old container's requests counts against its own grace period, not against this.
        self._compose(file, [*command, *services], wait + 900, f"{', '.join(services)} did not become healthy")

    def stop(self, file: str, services: Sequence[str], grace: float) -> None:
        """Have services finish what they have in hand and end; they stay stopped when the host starts again.

        Raises:
            FlowauditError: they could not be stopped.
        """
        command = ["stop", "--timeout", str(int(grace)), *services]
        self._compose(file, command, grace + 60, f"{', '.join(services)} did not stop")

    def remove(self, file: str, services: Sequence[str]) -> None:
        """Stop services and remove their containers."""
        self._compose(file, ["rm", "--stop", "--force", *services], 120, f"{', '.join(services)} could not be removed")

    def once(self, file: str, service: str, command: Sequence[str], seconds: float, what: str) -> str:
        """Run a service's image once, with another command; its output.

        Raises:
            FlowauditError: it failed.
        """
        # By a name of its own: what a killed run or a time-out left would go on, and be in the way of the next one.
        name = f"{os.path.basename(os.path.dirname(file))}-{service}-once"
        self._run(["docker", "rm", "--force", name], 60)
        arguments = ["run", "--rm", "--name", name, "--no-deps", "--no-TTY", service, *command]
        try:
            return self._compose(file, arguments, seconds, what).output
        except FlowauditError:
            self._run(["docker", "rm", "--force", name], 60)
            raise

    def logs(self, file: str, services: Sequence[str]) -> str:
        """What services have written, with times."""
        result = self._run(
            ["docker", "compose", "--file", file, "logs", "--no-color", "--timestamps", "--tail", "20000", *services],
            300,
        )
        return result.output

    def _compose(self, file: str, arguments: Sequence[str], seconds: float, what: str) -> Result:
        command = ["docker", "compose", "--progress", "quiet", "--file", file, *arguments]
        return self._checked(command, seconds, what)

    def _checked(self, command: Sequence[str], seconds: float, what: str) -> Result:
        result = self._run(command, seconds)
        if result.status != 0:
            raise FlowauditError(f"{what}: {result.said}")
        return result


def _plain(reference: str) -> str:
    """A reference as the engine writes it: Docker Hub is not named, and beside a digest no tag."""
    name, at, digest = reference.partition("@")
    name = re.sub(r"^(docker\.io/)?(library/)?", "", name)
    return re.sub(r":[^/:]+$", "", name) + at + digest if at else name

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pipelines for applications: both services take them, their shell works, and only approved digests are deployed.

Their steps are run here as the services would run them, with a real Git, and a docker and an ansible-playbook that
write down how they were called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import json
import re
import subprocess
import sys
import textwrap
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical
from ansible_collections.flowaudit.ops.plugins.plugin_utils import command

COLLECTION = Path(__file__).resolve().parents[3]
PIPELINES = COLLECTION / "docs" / "pipelines"
GITHUB, GITLAB, README = PIPELINES / "github-actions.yml", PIPELINES / "gitlab-ci.yml", PIPELINES / "README.md"
BIN = Path(sys.executable).parent

ORDER = ["lint", "test", "build", "push", "lock", "staging", "production"]
OF_A_RELEASE = ["push", "lock", "staging", "production"]
DEPLOYMENTS = ["staging", "production"]
SECRETS = {"SSH_KEY": "a private key", "VAULT_PASSWORD": "opens the vault", "BECOME_PASSWORD": "for sudo"}
REGISTRY = "registry.example.org/portal"

Mapping = dict[str, t.Any]


@functools.cache
def github() -> Mapping:
    # YAML 1.1 reads the key `on` as true.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(GITHUB.read_text("utf-8")).items()}


@functools.cache
def gitlab() -> Mapping:
    """The jobs of GitLab, each with what it extends."""
    loaded = yaml.safe_load(GITLAB.read_text("utf-8"))
    return {name: {**loaded.get(job.get("extends", ""), {}), **job} for name, job in loaded.items() if name in ORDER}


def jobs(service: str) -> Mapping:
    return t.cast("Mapping", github()["jobs"] if service == "github" else gitlab())


def needs(job: Mapping) -> list[str]:
    given = job.get("needs", [])
    return [given] if isinstance(given, str) else list(given)


def shell(service: str, job: str) -> list[str]:
    """The texts that a job hands to its shell."""
    value = jobs(service)[job]
    return [step["run"] for step in value["steps"]] if service == "github" else list(value["script"])


def step(service: str, job: str, containing: str) -> str:
    (found,) = [text for text in shell(service, job) if containing in text]
    return found


def everything(service: str) -> str:
    return (GITHUB if service == "github" else GITLAB).read_text("utf-8")


def tool(name: str, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / name, *words], input=text, capture_output=True, text=True, check=False, timeout=60)


each_service = pytest.mark.parametrize("service", ["github", "gitlab"])


# ── What the services take ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", GITHUB),
        ("custom.github-workflows-require-timeout", GITHUB),
        ("vendor.gitlab-ci", GITLAB),
    ],
)
def test_the_services_schema_takes_it(schema: str, path: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", schema, str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "path", "was", "becomes"),
    [
        ("vendor.github-workflows", GITHUB, "runs-on:", "run-on:"),
        ("custom.github-workflows-require-timeout", GITHUB, "timeout-minutes: 10", "name: x"),
        ("vendor.gitlab-ci", GITLAB, "when: manual", "when: manually"),
    ],
)
def test_the_schema_finds_mistakes(schema: str, path: Path, was: str, becomes: str, tmp_path: Path) -> None:
    wrong = tmp_path / path.name
    wrong.write_text(path.read_text("utf-8").replace(was, becomes), "utf-8")
    assert tool("check-jsonschema", "--builtin-schema", schema, str(wrong)).returncode != 0


@each_service
@pytest.mark.parametrize("job", ORDER)
def test_its_shell_is_clean(service: str, job: str) -> None:
    for text in shell(service, job):
        done = tool("shellcheck", "--norc", "--shell", "bash", "-", text=text)
        assert done.returncode == 0, done.stdout


def test_what_an_expression_names_is_there() -> None:
    for name, job in github()["jobs"].items():
        for other, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", yaml.safe_dump(job)):
            assert other in needs(job), f"{name} reads {other} and does not need it"
            assert output in github()["jobs"][other]["outputs"]
        ids = [each.get("id") for each in job["steps"]]
        for identifier in re.findall(r"steps\.(\w+)\.outputs", yaml.safe_dump(job)):
            assert identifier in ids


# ── What has to hold whatever the services take ──────────────────────────────────────────────────────────────────────


def test_both_have_the_same_stages_in_the_same_order() -> None:
    assert list(github()["jobs"]) == ORDER
    assert yaml.safe_load(GITLAB.read_text("utf-8"))["stages"] == ORDER
    assert {name: job["stage"] for name, job in gitlab().items()} == {name: name for name in ORDER}


@each_service
def test_each_stage_waits_for_those_before(service: str) -> None:
    assert {name: needs(job) for name, job in jobs(service).items()} == {
        "lint": [],
        "test": ["lint"],
        "build": ["test"],
        "push": ["test"],
        "lock": ["push"],
        "staging": ["push", "lock"],
        "production": ["push", "staging"],
    }


def test_both_run_the_same_shell() -> None:
    for job, containing in {"push": "docker push", "lock": "git clone", "production": "ansible-playbook"}.items():
        hub, lab = (step(service, job, containing) for service in ("github", "gitlab"))
        own = lab[: lab.index("set -euo pipefail")]
        assert "$" not in re.sub(r"\$\(cat [^)]*\)|\$\{\w+:\+|\$CI_ENVIRONMENT_NAME", "", own)
        assert hub.startswith(lab.removeprefix(own))
        assert all("$GITHUB_" in line for line in hub.removeprefix(lab.removeprefix(own)).splitlines())


def test_what_appears_twice_is_the_same() -> None:
    for containing in ("git init", "docker build"):
        found = {text for name in ORDER for text in shell("github", name) if containing in text}
        assert len(found) == 1, containing
    assert step("gitlab", "build", "docker build") == step("gitlab", "push", "docker build")


@each_service
def test_production_takes_the_step_of_staging(service: str) -> None:
    assert shell(service, "staging") == shell(service, "production")
    if service == "github":
        environments = [jobs(service)[name]["steps"][0]["env"] for name in DEPLOYMENTS]
        assert [environment["TARGET"] for environment in environments] == DEPLOYMENTS
        assert {**environments[0], "TARGET": "production"} == environments[1]


def test_only_a_release_is_pushed_and_deployed_github() -> None:
    assert github()["on"]["push"] == {"branches": ["main"], "tags": ["v[0-9]+.[0-9]+.[0-9]+"]}
    # No other event, by which somebody could start it with a tag of their own.
    assert set(github()["on"]) == {"pull_request", "push"}
    for name, job in github()["jobs"].items():
        if name in OF_A_RELEASE:
            assert job["if"] == "${{ startsWith(github.ref, 'refs/tags/v') }}", name
    assert github()["jobs"]["build"]["if"] == "${{ !startsWith(github.ref, 'refs/tags/v') }}"


def test_only_a_release_is_pushed_and_deployed_gitlab() -> None:
    for name in OF_A_RELEASE:
        for rule in gitlab()[name]["rules"]:
            conditions = rule["if"].split(" && ")
            assert '$CI_COMMIT_REF_PROTECTED == "true"' in conditions, name
            (pattern,) = (re.findall(r"\$CI_COMMIT_TAG =~ /(.*)/", " && ".join(conditions))) or [""]
            assert re.search(pattern, "v1.4.0") and pattern, name
            assert not [tag for tag in ("1.4.0", "v1.4", "v1.4.0-rc1", "xv1.4.0") if re.search(pattern, tag)], name
    assert gitlab()["build"]["rules"] == [{"if": "$CI_COMMIT_TAG == null"}]


def test_production_waits_for_a_person() -> None:
    assert [github()["jobs"][name]["environment"] for name in DEPLOYMENTS] == DEPLOYMENTS
    assert [gitlab()[name]["environment"]["name"] for name in DEPLOYMENTS] == DEPLOYMENTS
    assert [(rule["when"], rule["allow_failure"]) for rule in gitlab()["production"]["rules"]] == [("manual", False)]


def test_there_is_one_deployment_at_a_time() -> None:
    for name in ("lock", *DEPLOYMENTS):
        assert github()["jobs"][name]["concurrency"] == {"group": name, "cancel-in-progress": False}
        assert gitlab()[name]["resource_group"] == name


@each_service
def test_every_job_ends(service: str) -> None:
    limit = "timeout-minutes" if service == "github" else "timeout"
    assert [name for name, job in jobs(service).items() if limit not in job] == []


def test_what_is_deployed_is_what_was_pushed() -> None:
    hub = github()["jobs"]
    assert hub["push"]["outputs"] == {"lock": "${{ steps.push.outputs.lock }}"}
    for name in ("lock", *DEPLOYMENTS):
        assert hub[name]["steps"][0]["env"]["LOCK"] == "${{ needs.push.outputs.lock }}"
        assert "LOCK=$(cat images.lock.release.yml)" in step("gitlab", name, "LOCK")
        # The job has nothing else that could name an image: no checkout, and no registry.
        assert gitlab()[name]["variables"] == {"GIT_STRATEGY": "none"}
        for service in ("github", "gitlab"):
            assert not re.search(r"REGISTRY|docker|git (init|fetch)", "".join(shell(service, name))), name
    assert gitlab()["push"]["artifacts"]["paths"] == ["images.lock.release.yml"]


@each_service
def test_nothing_is_called_latest_and_nothing_comes_from_others(service: str) -> None:
    assert "latest" not in everything(service)
    assert not re.search(r"^\s*(- )?(uses|image|include|services|container):", everything(service), re.MULTILINE)


def test_a_job_has_the_rights_it_needs() -> None:
    assert github()["permissions"] == {}
    read = {"contents": "read"}
    assert {name: job["permissions"] for name, job in github()["jobs"].items()} == {
        **dict.fromkeys(("lint", "test", "build"), read),
        "push": {**read, "packages": "write"},
        **{name: {} for name in ("lock", *DEPLOYMENTS)},
    }


def test_secrets_are_those_of_an_environment() -> None:
    for name, job in github()["jobs"].items():
        used = set(re.findall(r"secrets\.(\w+)", yaml.safe_dump(job)))
        assert used == (set(SECRETS) if name in DEPLOYMENTS else set()), name
        # What an expression puts into a script is code there.
        assert "${{" not in "".join(shell("github", name))
    for service in ("github", "gitlab"):
        assert "set -x" not in everything(service)


@each_service
def test_the_gate_refuses_none_of_its_environment(service: str) -> None:
    names = set(re.findall(r"\b(?:ANSIBLE|FLOWAUDIT)_[A-Z_]+", everything(service)))
    assert names <= command._HARMLESS


@pytest.mark.parametrize("path", [GITHUB, GITLAB, README], ids=lambda path: path.name)
def test_the_playbooks_it_names_are_there(path: Path) -> None:
    named = set(re.findall(r"flowaudit\.ops\.([a-z_]+)", path.read_text("utf-8")))
    assert "deploy" in named
    assert [name for name in sorted(named) if not (COLLECTION / "playbooks" / f"{name}.yml").is_file()] == []


def test_the_readme_names_what_has_to_be_set() -> None:
    text = README.read_text("utf-8")
    for service in ("github", "gitlab"):
        for name in (*SECRETS, *re.findall(r"vars\.(\w+)", everything(service)), "INVENTORIES", "REGISTRY"):
            assert name in text, name
    for name in yaml.safe_load(GITLAB.read_text("utf-8"))["variables"]:
        assert name in text or name in ("COMMIT", "REF"), name
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in ORDER] == ORDER


def test_the_readmes_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README.read_text("utf-8")):
        assert (PIPELINES / link).exists(), link


# ── What it does ─────────────────────────────────────────────────────────────────────────────────────────────────────

STUB = """\
#!{python}
import json, os, pathlib, stat, sys
words = sys.argv[1:]
files = {{}}
for option, path in zip(words, words[1:]):
    if option.startswith("--") and path.startswith("/dev/shm/"):
        files[option] = [stat.filemode(os.stat(path).st_mode), pathlib.Path(path).read_text()]
call = {{"program": pathlib.Path(sys.argv[0]).name, "words": words, "files": files, "environment": dict(os.environ)}}
call["stdin"] = sys.stdin.read() if "--password-stdin" in words else ""
with open({calls!r}, "a") as stream:
    stream.write(json.dumps(call) + "\\n")
if words[0] == "push":
    print("The push refers to repository [" + words[1].rpartition(":")[0] + "]")
    print("5f70bf18a086: Pushed")
    if not {mute!r}:
        digest = ("b" if "backend" in words[1] else "f") * 64
        print(words[1].rpartition(":")[2] + ": digest: sha256:" + digest + " size: 1234")
"""


def images(letters: str = "bf") -> dict[str, str]:
    names = zip(("backend", "frontend"), letters, strict=True)
    return {name: f"{REGISTRY}/{name}@sha256:{letter * 64}" for name, letter in names}


def entry(pushed: dict[str, str]) -> str:
    return f'images_lock: {{releases: {{"1.4.0": {json.dumps(pushed)}}}}}'


@dataclasses.dataclass
class Runner:
    """A machine that runs steps of a pipeline, and a repository of inventories."""

    service: str
    top: Path

    def __post_init__(self) -> None:
        for name in ("home", "bin", "work"):
            (self.top / name).mkdir()
        (self.top / "home" / ".gitconfig").write_text("[init]\ndefaultBranch = main\n[user]\nname = x\nemail = x@y.z\n")
        for name in ("docker", "ansible-playbook"):
            self.stub(name)

    @property
    def inventories(self) -> Path:
        return self.top / "portal"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.top / 'bin'}:{BIN}:/usr/bin:/bin",
            "HOME": str(self.top / "home"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C",
            "REGISTRY": REGISTRY,
            "INVENTORIES": str(self.inventories),
            "COMMIT": "c0ffee",
            "REF": "v1.4.0",
        }

    def stub(self, name: str, mute: bool = False) -> None:
        path = self.top / "bin" / name
        path.write_text(STUB.format(python=sys.executable, calls=str(self.top / "calls"), mute=mute))
        path.chmod(0o755)

    @property
    def calls(self) -> list[Mapping]:
        path = self.top / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def prepared(self, job: str, **variables: str) -> tuple[list[str], dict[str, str]]:
        """The command and the environment of a job's shell, with what its service gives it."""
        texts = shell(self.service, job)
        environment = self.environment | variables
        if self.service == "github":
            texts = [text for text in texts if "git init" not in text]
            environment |= {name: str(self.top / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
            environment["TARGET"] = job
        else:
            if "LOCK" in environment:
                (self.top / "work" / "images.lock.release.yml").write_text(environment.pop("LOCK") + "\n")
            environment["CI_ENVIRONMENT_NAME"] = job
            for name in SECRETS.keys() & variables.keys():
                (self.top / name).write_text(variables[name] + "\n")
                environment[name] = str(self.top / name)
        return ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", "\n".join(texts)], environment

    def run(self, job: str, **variables: str) -> subprocess.CompletedProcess[str]:
        words, environment = self.prepared(job, **variables)
        work = self.top / "work"
        return subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def git(self, *words: str, place: Path | None = None) -> str:
        done = subprocess.run(
            ["git", "-C", str(place or self.inventories), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    def commit(self, files: dict[str, str]) -> None:
        """Have somebody commit files to the inventories, elsewhere."""
        elsewhere = self.top / "elsewhere"
        if elsewhere.exists():
            self.git("pull", "--quiet", place=elsewhere)
        else:
            self.git("clone", "--quiet", str(self.top / "origin.git"), str(elsewhere), place=self.top)
        for name, text in files.items():
            (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
            (elsewhere / name).write_text(text)
        self.git("add", "--all", place=elsewhere)
        self.git("commit", "--quiet", "--message", "Somebody's", place=elsewhere)
        self.git("push", "--quiet", "origin", "HEAD", place=elsewhere)

    def published(self, target: str) -> str:
        return self.git("show", f"main:{lock_of(target)}", place=self.top / "origin.git")


def lock_of(target: str) -> str:
    return f"inventories/{target}/group_vars/all/images.lock.yml"


LOCK = textwrap.dedent(f"""\
    ---
    # Written by the role flowaudit.ops.platform_images: which image, to the byte. Keep it in Git.
    images_lock:
      platform:
        redis: {REGISTRY}/redis@sha256:{"1" * 64}
      releases:
        1.3.2:
          backend: {REGISTRY}/backend@sha256:{"2" * 64}
          frontend: {REGISTRY}/frontend@sha256:{"3" * 64}
    """)


@pytest.fixture(params=["github", "gitlab"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    made = Runner(request.param, tmp_path)
    for image in ("backend", "frontend"):
        (tmp_path / "work" / image).mkdir()
    (tmp_path / "work" / "backend" / "migrations.txt").write_text("0001=none\n0002=expand\n")
    made.git("init", "--quiet", "--bare", str(tmp_path / "origin.git"), place=tmp_path)
    made.commit({"known_hosts": "nuc1 ssh-ed25519 AAAA\n", **{lock_of(target): LOCK for target in DEPLOYMENTS}})
    made.git("clone", "--quiet", str(tmp_path / "origin.git"), str(made.inventories), place=tmp_path)
    return made


@pytest.fixture
def locked(runner: Runner) -> Runner:
    done = runner.run("lock", LOCK=entry(images()))
    assert done.returncode == 0, done.stderr
    return runner


PUSH = {"REGISTRY_USER": "pipeline", "REGISTRY_PASSWORD": "of the registry"}


def test_the_digests_are_those_the_registry_says(runner: Runner) -> None:
    done = runner.run("push", **PUSH)
    assert done.returncode == 0, done.stderr
    text = (runner.top / "work" / "images.lock.release.yml").read_text()
    assert yaml.safe_load(text) == {"images_lock": {"releases": {"1.4.0": images()}}}
    if runner.service == "github":
        assert (runner.top / "GITHUB_OUTPUT").read_text() == f"lock={text}"
    built = [call["words"] for call in runner.calls if call["words"][0] == "build"]
    assert [words[-1] for words in built] == ["backend", "frontend"]
    for words in built:
        assert {label for option, label in itertools.pairwise(words) if option == "--label"} == {
            "org.opencontainers.image.version=1.4.0",
            "org.opencontainers.image.revision=c0ffee",
            "ops.flowaudit.migrations=0001=none,0002=expand",
        }
    (login,) = [call for call in runner.calls if call["words"][0] == "login"]
    assert (login["stdin"], login["words"][-1]) == (PUSH["REGISTRY_PASSWORD"], "registry.example.org")
    assert PUSH["REGISTRY_PASSWORD"] not in done.stdout + done.stderr + str([call["words"] for call in runner.calls])
    assert not Path(login["environment"]["DOCKER_CONFIG"]).exists()


def test_a_push_without_a_digest_is_none(runner: Runner) -> None:
    runner.stub("docker", mute=True)
    done = runner.run("push", **PUSH)
    assert done.returncode == 1
    assert f"The registry did not say which digest {REGISTRY}/backend:1.4.0 has." in done.stderr
    assert not (runner.top / "GITHUB_OUTPUT").exists()
    assert not (runner.top / "work" / "images.lock.release.yml").exists()


def test_a_migration_without_a_class_is_not_built(runner: Runner) -> None:
    (runner.top / "work" / "backend" / "migrations.txt").write_text("0001=none\n0002=harmless\n")
    done = runner.run("build")
    assert (done.returncode, runner.calls) == (1, [])
    assert "0002=harmless" in done.stdout and "0001" not in done.stdout
    (runner.top / "work" / "backend" / "migrations.txt").unlink()
    assert (runner.run("build").returncode, runner.calls) == (1, [])


def test_both_inventories_are_locked_and_keep_the_rest(locked: Runner) -> None:
    added = "    1.4.0:\n" + "".join(f"      {name}: {reference}\n" for name, reference in images().items())
    # As the role writes it, so its next run has no difference to show.
    assert [locked.published(target) for target in DEPLOYMENTS] == [LOCK + added] * 2
    before = locked.git("rev-parse", "main", place=locked.top / "origin.git")
    assert locked.run("lock", LOCK=entry(images())).returncode == 0
    assert locked.git("rev-parse", "main", place=locked.top / "origin.git") == before


def test_a_locked_release_stays_as_it_is(locked: Runner) -> None:
    before = locked.git("rev-parse", "main", place=locked.top / "origin.git")
    done = locked.run("lock", LOCK=entry(images("be")))
    assert done.returncode == 1
    assert "has other images for release 1.4.0, which stays as it is" in done.stderr
    assert locked.git("rev-parse", "main", place=locked.top / "origin.git") == before


@pytest.mark.parametrize("target", DEPLOYMENTS)
def test_a_deployment_runs_the_playbook_with_secrets_in_files(locked: Runner, target: str) -> None:
    done = locked.run(target, LOCK=entry(images()), **SECRETS)
    assert done.returncode == 0, done.stderr
    (call,) = locked.calls
    assert call["program"] == "ansible-playbook"
    beginning = ["-i", f"inventories/{target}", "flowaudit.ops.deploy", "--limit", "nuc", "-e", "release_id=1.4.0"]
    assert call["words"][:7] == beginning
    assert call["files"] == {
        "--private-key": ["-rw-------", f"{SECRETS['SSH_KEY']}\n"],
        "--vault-password-file": ["-rw-------", f"{SECRETS['VAULT_PASSWORD']}\n"],
        "--become-password-file": ["-rw-------", f"{SECRETS['BECOME_PASSWORD']}\n"],
    }
    assert len(call["words"]) == len(beginning) + 2 * len(SECRETS)
    paths = [Path(word) for word in call["words"] if word.startswith("/dev/shm/")]
    assert not [path for path in paths if path.parent.exists()]
    for secret in SECRETS.values():
        assert secret not in done.stdout + done.stderr + str(call["words"]) + str(call["environment"])


def test_without_secrets_there_are_no_options(locked: Runner) -> None:
    assert locked.run("production", LOCK=entry(images())).returncode == 0
    (call,) = locked.calls
    assert call["words"][-2:] == ["-e", "release_id=1.4.0"]


def test_other_digests_are_not_deployed(locked: Runner) -> None:
    done = locked.run("production", LOCK=entry(images("be")))
    assert (done.returncode, locked.calls) == (1, [])
    assert "has other images for release 1.4.0 than those that were pushed." in done.stderr


def test_what_is_not_locked_is_not_deployed(runner: Runner) -> None:
    done = runner.run("staging", LOCK=entry(images()))
    assert (done.returncode, runner.calls) == (1, [])


def test_hosts_whose_keys_nobody_knows_are_not_reached(locked: Runner) -> None:
    locked.commit({"known_hosts": ""})
    done = locked.run("production", LOCK=entry(images()))
    assert (done.returncode, locked.calls) == (1, [])
    assert "has no known_hosts" in done.stderr


def change(name: str, **values: str) -> dict[str, str]:
    text = canonical.encode({"id": name, "title": "Release", "reason": 'Not "release":"1.4.0".', **values}).decode()
    return {f"changes/production/{name}/change.json": text}


def test_the_newest_change_of_the_release_is_named(locked: Runner) -> None:
    locked.commit(
        change("CHG-2026-9", release="1.4.0")
        | change("CHG-2026-10", release="1.4.0")
        | change("CHG-2026-11", release="1.4.00")
        | change("CHG-2026-12", release="1x4x0")
        | {"changes/production/CHG-2026-10/approvals/a@example.org.sig": '"release":"1.4.0"'}
    )
    assert locked.run("production", LOCK=entry(images())).returncode == 0
    # Others' changes are others': staging has none.
    assert locked.run("staging", LOCK=entry(images())).returncode == 0
    production, staging = locked.calls
    assert production["words"][-2:] == ["-e", "change_id=CHG-2026-10"]
    assert staging["words"][-2:] == ["-e", "release_id=1.4.0"]


def test_another_change_can_be_named(locked: Runner) -> None:
    locked.commit(change("CHG-2026-9", release="1.4.0"))
    assert locked.run("production", LOCK=entry(images()), CHANGE_ID="CHG-2026-0042").returncode == 0
    (call,) = locked.calls
    assert call["words"][-2:] == ["-e", "change_id=CHG-2026-0042"]


def test_a_change_id_brings_no_other_variable(locked: Runner) -> None:
    done = locked.run("production", LOCK=entry(images()), CHANGE_ID="CHG-2026-0042 accept_interruption=true")
    assert (done.returncode, locked.calls) == (1, [])
    assert "CHANGE_ID is no name of a change" in done.stderr


def test_a_deployment_waits_for_the_one_before(locked: Runner) -> None:
    words, environment = locked.prepared("production", LOCK=entry(images()))
    with (locked.inventories / ".git" / "deployment.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = subprocess.Popen(words, cwd=locked.top / "work", env=environment)
        try:
            deadline = time.monotonic() + 30
            while not _is_waiting(waiting.pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert _is_waiting(waiting.pid) and locked.calls == []
            fcntl.flock(held, fcntl.LOCK_UN)
            assert waiting.wait(30) == 0
        finally:
            waiting.kill()
            waiting.wait()
    assert len(locked.calls) == 1


def _is_waiting(pid: int) -> bool:
    """Whether a shell has come to its flock."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            if Path(f"/proc/{child}/comm").read_text().strip() == "flock":
                return True
    return False

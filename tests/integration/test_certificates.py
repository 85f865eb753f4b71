"""The portal's certificate from all three sources, renewed under load; what is wrong with one is said in a sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import socket
import ssl
import subprocess
import time
import typing as t
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from .authority import Authority, Pair, key_pem, new_key, pem
from .conftest import CHECKOUT, DOMAIN, EDGE_ALONE, STATE, Load, Portal, Refuse, recap, wait_until

pytestmark = pytest.mark.certificates

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]
RENEW = "flowaudit.ops.renew_certificates"
EDGE = "/etc/flowaudit/edge"


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stdout.split())


# ── What is served ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def trust(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA files of every source; a client that trusts them all notices only what goes wrong."""
    path = tmp_path_factory.mktemp("trust") / "ca.pem"
    path.write_text((STATE / "tls" / "ca.pem").read_text() + pem(authority.root.certificate))
    return path


@pytest.fixture
def load(ports: dict[str, int], trust: Path) -> Callable[[], Load]:
    return lambda: Load(Portal(ports, trust), "/")


def unbroken(load: Load) -> None:
    assert load.failures == []
    assert load.kept.answers > 50 and load.fresh.answers > 50
    assert load.kept.connections == 1, "the connection that was kept open was closed"
    assert len(load.fresh.certificates) == 2, "the client saw the change of certificate"


@pytest.fixture
def served(ports: dict[str, int]) -> Callable[[], str]:
    """SHA-256 of the certificate that is served for the portal's name."""

    def ask() -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", ports["nuc_443"]), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=DOMAIN) as tls,
        ):
            return hashlib.sha256(tls.getpeercert(True) or b"").hexdigest()

    return ask


@pytest.fixture(scope="module")
def internal_again(playbook: Playbook, nuc: t.Any, portal: Portal) -> Iterator[None]:
    """Whatever a test made of it, the host ends with its internal CA, healthy."""
    yield
    run = playbook(EDGE_ALONE)
    assert run.returncode == 0, run.stdout[-2000:]
    wait_until(portal.healthy, 60, "the portal is healthy with the internal certificate")
    assert nuc.file(f"{EDGE}/ca.pem").linked_to == "/etc/flowaudit/ca/ca.pem"
    nuc.check_output("find %s/acme -mindepth 1 -delete", EDGE)


# ── testssl.sh ───────────────────────────────────────────────────────────────────────────────────────────────────────
ACCEPTED = {
    "cert_revocation": "the internal CA publishes no revocation list: a certificate of it is replaced, not revoked",
    "engine_problem": "of the scanning machine's own OpenSSL",
    "secure_renego": "OpenSSL 3 cannot ask; Go's TLS knows no renegotiation",
}


@pytest.mark.campaign
def test_testssl_finds_nothing_above_its_lowest_severity(ports: dict[str, int], tmp_path: Path) -> None:
    if not Path("/usr/bin/testssl").exists():
        sudo = [] if subprocess.check_output(["id", "-u"]).strip() == b"0" else ["sudo"]
        install = ["apt-get", "install", "-y", "--no-install-recommends", "testssl.sh"]
        subprocess.run([*sudo, "apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*sudo, *install], check=True, stdout=subprocess.DEVNULL)
    report = tmp_path / "testssl.json"
    # Protocols, ciphers, forward secrecy, preferences, certificate, vulnerabilities, headers; no simulated clients.
    checks = ["-p", "-s", "-f", "-P", "-S", "-U", "-h"]
    where = ["--ip", "127.0.0.1", "--add-ca", str(STATE / "tls" / "ca.pem"), "--jsonfile", str(report)]
    scan = subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "batch", *where, *checks, f"{DOMAIN}:{ports['nuc_443']}"],
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    results = {result["id"]: result for result in json.loads(report.read_text())}
    # It looked, and at the right thing.
    looked_at = {"TLS1_2", "TLS1_3", "BREACH", "ROBOT", "HSTS_time", "cert_revocation"}
    assert looked_at <= results.keys(), scan.stdout[-3000:]
    assert results["cert_chain_of_trust"]["finding"].startswith("passed")
    assert {results[old]["finding"] for old in ("SSLv3", "TLS1", "TLS1_1")} == {"not offered"}
    findings = {
        name: f"{result['severity']}: {result['finding']}"
        for name, result in results.items()
        if result["severity"] not in ("OK", "INFO", "LOW") and name not in ACCEPTED
    }
    assert findings == {}


# ── Internal and provided ────────────────────────────────────────────────────────────────────────────────────────────
def test_an_internal_certificate_is_renewed_without_a_lost_request(
    playbook: Playbook,
    nuc: t.Any,
    docker: Callable[..., str],
    served: Callable[[], str],
    load: Callable[[], Load],
) -> None:
    before, started = served(), docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-edge-traefik-1")
    with load() as asked:
        # With more days asked for than any certificate has, today's is one that runs out.
        run = playbook(RENEW, edge_certificate_renew_days=400)
        assert run.returncode == 0, run.stdout[-2000:]
    unbroken(asked)
    assert served() != before
    assert docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-edge-traefik-1") == started
    assert re.search(r"Certificate \(internal\) for flowaudit\.localhost: until 20\d\d-.*396 days", said(run))
    # The old pair is gone, with its key.
    assert len(nuc.check_output("ls %s/certificates", EDGE).split()) == 1


@pytest.fixture(scope="module")
def provided(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, dict[str, str]]:
    directory = tmp_path_factory.mktemp("provided")
    pair = authority.issue(f"*.{DOMAIN.split('.', 1)[1]}", DOMAIN)
    (directory / "ca.pem").write_text(pem(authority.root.certificate))
    return pair, {
        "edge_certificate_source": "provided",
        "edge_certificate_ca_file": str(directory / "ca.pem"),
        **pair.write(directory),
    }


def test_a_provided_certificate_is_served_and_its_key_seen_by_nobody(
    playbook: Playbook,
    nuc: t.Any,
    served: Callable[[], str],
    load: Callable[[], Load],
    provided: tuple[Pair, dict[str, str]],
    tmp_path: Path,
    internal_again: None,
) -> None:
    pair, variables = provided
    # The key as an operator keeps it: encrypted by ansible-vault, its password in a file.
    secret, password = tmp_path / "key.pem", tmp_path / "password"
    secret.write_text(key_pem(pair.key))
    password.write_text("of this test\n")
    subprocess.run(
        ["ansible-vault", "encrypt", "--vault-password-file", str(password), str(secret)], check=True, cwd=CHECKOUT
    )
    assert "$ANSIBLE_VAULT" in secret.read_text()
    variables = variables | {"edge_certificate_key_file": str(secret)}
    with load() as asked:
        run = playbook(RENEW, "--vault-password-file", str(password), "--diff", "-vvv", **variables)
        assert run.returncode == 0, run.stdout[-2000:]
    unbroken(asked)
    assert served() == pair.fingerprint
    body = "".join(key_pem(pair.key).splitlines()[1:-1])
    assert body[:40] not in run.stdout.replace("\\n", "").replace("\n", "")
    key = nuc.file(nuc.check_output("ls -d %s/certificates/*/key.pem", EDGE))
    assert (key.mode, key.uid) == (0o400, 70080)
    # Whoever on the host asks for the portal finds its CA where it always is.
    nuc.check_output(
        "openssl s_client -connect 127.0.0.1:443 -servername %s -verify_hostname %s -CAfile %s/ca.pem "
        "-verify_return_error </dev/null",
        DOMAIN,
        DOMAIN,
        EDGE,
    )


# ── Wrong input ──────────────────────────────────────────────────────────────────────────────────────────────────────
WRONG: dict[str, tuple[Callable[[Authority, Path], dict[str, str]], str]] = {}


def wrong(sentence: str) -> Callable[[Callable[[Authority, Path], dict[str, str]]], None]:
    def add(make: Callable[[Authority, Path], dict[str, str]]) -> None:
        WRONG[make.__name__.replace("_", " ")] = make, sentence

    return add


@wrong(
    r"edge_certificate_source is provided, but edge_certificate_key_file is empty; a certificate needs its key, name"
)
def without_its_key(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue(DOMAIN).write(directory) | {"edge_certificate_key_file": ""}


@wrong(
    r"edge_certificate_key_file is \S+/none\.pem, which cannot be read or holds no private key in PEM; name the file"
)
def a_key_that_is_not_there(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue(DOMAIN).write(directory) | {"edge_certificate_key_file": str(directory / "none.pem")}


@wrong(r"The key in \S+/key\.pem belongs to another certificate than the one in \S+/cert\.pem; give the pair")
def the_key_of_another(authority: Authority, directory: Path) -> dict[str, str]:
    pair = authority.issue(DOMAIN)
    return dataclasses.replace(pair, key=new_key()).write(directory)


@wrong(r"key\.pem, holds a key that cannot be read without a passphrase; remove the passphrase, and encrypt the file")
def a_key_with_a_passphrase(authority: Authority, directory: Path) -> dict[str, str]:
    pair = authority.issue(DOMAIN)
    variables = pair.write(directory)
    (directory / "key.pem").write_text(key_pem(pair.key, b"secret"))
    return variables


@wrong(r"The certificate in \S+/cert\.pem expired on 20[-\d]+ [:\d]+ UTC; order a new one\.")
def expired(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue(DOMAIN, days=(-30, -2)).write(directory)


@wrong(
    r"cert\.pem is for other\.example\.org, \*\.example\.org and not for flowaudit\.localhost; order one for every name"
)
def wrong_names(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue("other.example.org", "*.example.org").write(directory)


@wrong(r"The chain in \S+/cert\.pem is incomplete: it does not lead to a root of edge_certificate_ca_file; append the")
def without_its_issuer(authority: Authority, directory: Path) -> dict[str, str]:
    pair = authority.issue(DOMAIN)
    return pair.write(directory, pair.certificate)


@wrong(r"The chain in \S+/cert\.pem is incomplete: it does not lead to a root this control node trusts; .* or name its")
def of_an_unknown_root(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue(DOMAIN).write(directory) | {"edge_certificate_ca_file": ""}


@wrong(r"\S+/cert\.pem begins with a certificate the key does not belong to; put the other one first, each")
def upside_down(authority: Authority, directory: Path) -> dict[str, str]:
    pair = authority.issue(DOMAIN)
    return pair.write(directory, *pair.issuers, pair.certificate)


@wrong(
    r"The key in \S+/key\.pem is RSA 2048; use RSA with at least 3000 bits \(edge_certificate_minimum_rsa_bits\), or"
)
def a_short_key(authority: Authority, directory: Path) -> dict[str, str]:
    return authority.issue(DOMAIN, key=rsa.generate_private_key(65537, 2048)).write(directory)


@wrong(r"edge_acme_server is https://127\.0\.0\.1:9/directory, where demo_nuc finds no ACME directory \(.*refused")
def an_acme_server_that_is_not_there(authority: Authority, directory: Path) -> dict[str, str]:
    return {"edge_certificate_source": "acme", "edge_acme_server": "https://127.0.0.1:9/directory"}


@wrong(r"Of edge_acme_eab_key_id and edge_acme_eab_hmac one is empty; give both, or none\.")
def half_an_external_account(authority: Authority, directory: Path) -> dict[str, str]:
    return {"edge_certificate_source": "acme", "edge_acme_eab_key_id": "kid-1"}


def test_wrong_input_is_refused_before_anything_is_touched(
    playbook: Playbook,
    refuse: Refuse,
    authority: Authority,
    served: Callable[[], str],
    provided: tuple[Pair, dict[str, str]],
    tmp_path: Path,
) -> None:
    before = served()
    inputs: dict[str, dict[str, str]] = {}
    for case, (make, _sentence) in WRONG.items():
        directory = tmp_path / case.replace(" ", "-")
        directory.mkdir()
        inputs[case] = provided[1] | make(authority, directory)
    answers = dict(
        zip(inputs, refuse([("edge/preflight_certificate", variables) for variables in inputs.values()]), strict=True)
    )
    assert {case: answer for case, answer in answers.items() if not re.search(WRONG[case][1], answer)} == {}

    # The playbook that only renews asks the same check first.
    run = playbook(RENEW, **inputs["expired"])
    assert run.returncode != 0
    assert re.search(WRONG["expired"][1], said(run)), run.stdout[-1500:]
    assert recap(run)["changed"] == 0
    assert served() == before


# ── ACME ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
PEBBLE_IMAGE = "flowaudit/pebble:bookworm"
EAB = {"kid": "kid-1", "hmac": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}


def engine(*arguments: str, **options: t.Any) -> str:
    return subprocess.run(
        ["docker", *arguments], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    ).stdout.strip()


@dataclasses.dataclass
class Pebble:
    """The ACME server the makers of Let's Encrypt test clients with, on the test hosts' network."""

    name: str
    address: str
    directory: Path

    @property
    def variables(self) -> dict[str, t.Any]:
        return {
            "edge_certificate_source": "acme",
            "edge_acme_server": f"https://{self.address}:14000/dir",
            "edge_acme_email": "operator@example.org",
            "edge_acme_ca_bundle": str(self.directory / "server-ca.pem"),
            "edge_acme_eab_key_id": EAB["kid"],
            "edge_acme_eab_hmac": EAB["hmac"],
            "edge_certificate_ca_file": str(self.directory / "root.pem"),
            "edge_acme_wait": 40,
        }

    def start(self, seconds: int) -> None:
        """Anew, with certificates that are valid for ``seconds``."""
        configuration = {
            "listenAddress": "0.0.0.0:14000",
            "managementListenAddress": "0.0.0.0:15000",
            "certificate": "/pebble/cert.pem",
            "privateKey": "/pebble/key.pem",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": True,
            "externalAccountMACKeys": {EAB["kid"]: EAB["hmac"]},
            "certificateValidityPeriod": seconds,
        }
        (self.directory / "pebble.json").write_text(json.dumps({"pebble": configuration}))
        engine("cp", f"{self.directory}/.", f"{self.name}:/pebble")
        engine("exec", self.name, "touch", "/pebble/go")
        # The one before it is gone when this file is.
        wait_until(lambda: engine("exec", self.name, "find", "/pebble", "-name", "go") == "", 20, "pebble starts")
        trusting = ssl.create_default_context(cafile=str(self.directory / "server-ca.pem"))

        def root() -> str:
            try:
                with urllib.request.urlopen(f"https://{self.address}:15000/roots/0", context=trusting) as answer:
                    return t.cast(str, answer.read().decode())
            except OSError:
                return ""

        (self.directory / "root.pem").write_text(wait_until(root, 20, "pebble answers"))

    @property
    def log(self) -> str:
        return engine("logs", self.name)


def have_pebble() -> None:
    """Debian packages pebble for bookworm; any machine with mmdebstrap makes this image from the mirror it has."""
    if subprocess.run(["docker", "image", "inspect", PEBBLE_IMAGE], check=False, capture_output=True).returncode == 0:
        return
    sudo = [] if subprocess.check_output(["id", "-u"]).strip() == b"0" else ["sudo"]
    if not Path("/usr/bin/mmdebstrap").exists():
        install = ["apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"]
        subprocess.run([*sudo, "apt-get", "update"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*sudo, *install], check=True, stdout=subprocess.DEVNULL)
    bootstrap = [
        *sudo,
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--include=pebble,ca-certificates",
        "bookworm",
        "-",
    ]
    with subprocess.Popen(bootstrap, stdout=subprocess.PIPE) as tar:
        engine("import", "-", PEBBLE_IMAGE, stdin=tar.stdout)
    assert tar.returncode == 0


@pytest.fixture(scope="module")
def pebble(
    authority: Authority, host_container: str, trust: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pebble]:
    have_pebble()
    network, name = host_container.removesuffix("-nuc"), host_container.removesuffix("-nuc") + "-pebble"
    address = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    nuc = engine("inspect", "--format", address, host_container)
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)
    # It starts when told to, again each time; every name resolves to the nuc.
    script = f"""
        pebble-challtestsrv -defaultIPv4 {nuc} -defaultIPv6 '' -http01 '' -https01 '' -tlsalpn01 '' &
        while true; do
          until [ -e /pebble/go ]; do sleep 0.1; done
          [ -z "$pebble" ] || {{ kill "$pebble"; wait "$pebble"; }}
          rm /pebble/go
          pebble -config /pebble/pebble.json -dnsserver 127.0.0.1:8053 & pebble=$!
        done"""
    settings = ["--env=PEBBLE_VA_NOSLEEP=1", "--env=PEBBLE_AUTHZREUSE=0"]
    engine(
        "run",
        "--detach",
        "--init",
        f"--name={name}",
        f"--network={network}",
        *settings,
        PEBBLE_IMAGE,
        "sh",
        "-c",
        script,
    )
    try:
        directory = tmp_path_factory.mktemp("pebble")
        server = Pebble(name, engine("inspect", "--format", address, name), directory)
        authority.issue(server.address).write(directory)
        (directory / "server-ca.pem").write_text(pem(authority.root.certificate))
        server.start(90 * 86400)
        with trust.open("a") as file:
            file.write((directory / "root.pem").read_text())
        yield server
    finally:
        engine("rm", "--force", name)


def issuer(nuc: t.Any) -> str:
    ask = f"openssl s_client -connect 127.0.0.1:443 -servername {DOMAIN} </dev/null 2>/dev/null"
    return t.cast(str, nuc.check_output(f"{ask} | openssl x509 -noout -issuer"))


@pytest.mark.campaign
def test_what_the_acme_server_refuses_leaves_the_old_certificate(
    playbook: Playbook, pebble: Pebble, served: Callable[[], str], nuc: t.Any, internal_again: None
) -> None:
    before = served()
    stranger = pebble.variables | {
        "edge_acme_server": f"https://{pebble.address}:14000/dir?stranger",
        "edge_acme_eab_hmac": "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH",
        "edge_acme_wait": 10,
    }
    run = playbook(EDGE_ALONE, **stranger)
    assert run.returncode != 0
    assert re.search(
        r"dir\?stranger has issued no certificate for flowaudit\.localhost within 10 s \(.*acme: error: 40\d.*\); "
        r"what was served before goes on being served",
        said(run),
    ), run.stdout[-3000:]
    assert served() == before


@pytest.mark.campaign
def test_acme_by_http_issues_while_the_old_certificate_is_served(
    playbook: Playbook,
    nuc: t.Any,
    portal: Portal,
    pebble: Pebble,
    served: Callable[[], str],
    load: Callable[[], Load],
    internal_again: None,
) -> None:
    before = served()
    with load() as asked:
        run = playbook(EDGE_ALONE, "--diff", "-vvv", **pebble.variables)
        assert run.returncode == 0, run.stdout[-3000:]
        time.sleep(0.5)
    assert served() != before
    assert "Pebble" in issuer(nuc)
    assert f"Attempting to validate w/ HTTP: http://{DOMAIN}:80/" in pebble.log
    # Traefik restarts once, for its static configuration. It is up again with the old certificate: waiting for the ACME
    # server and changing over is no second outage.
    assert len(asked.fresh.outages) <= 1, asked.failures
    # The account's secret is in no output, and in no file that others can read.
    assert EAB["hmac"] not in run.stdout.replace(json.dumps(pebble.variables), "")
    assert nuc.check_output("grep -rl %s /etc/flowaudit /opt/flowaudit || true", EAB["hmac"]) == f"{EDGE}/traefik.yml"
    assert nuc.file(f"{EDGE}/traefik.yml").mode == 0o400
    # One file for each server that was asked.
    for storage in nuc.check_output("ls -d %s/acme/*.json", EDGE).split():
        assert (nuc.file(storage).mode, nuc.file(storage).uid) == (0o600, 70080)
    assert nuc.check_output("ls %s/certificates", EDGE) == "", "the pair before it is still there"


@pytest.mark.campaign
def test_acme_by_tls_alpn_renews_on_request_with_the_old_one_served_meanwhile(
    playbook: Playbook, nuc: t.Any, pebble: Pebble, served: Callable[[], str], internal_again: None
) -> None:
    before, log = served(), pebble.log
    run = playbook(RENEW, renew_force=True, edge_acme_challenge="tls-alpn-01", **pebble.variables)
    assert run.returncode == 0, run.stdout[-3000:]
    assert served() != before
    assert "Pebble" in issuer(nuc)
    # Pebble tells of each request by HTTP; this validation needed none.
    assert "set VALID by completed challenge" in pebble.log.removeprefix(log)
    assert "validate w/ HTTP" not in pebble.log.removeprefix(log)
    assert "certificatesDuration: 2160" in nuc.check_output("cat %s/traefik.yml", EDGE)


# Pebble's certificates of 20.5 minutes are due 30 seconds after they were issued: with less than a day to live,
# Traefik renews what has less than 20 minutes left, and looks every minute.
@pytest.mark.campaign
def test_traefik_renews_by_itself_before_the_end(
    playbook: Playbook,
    nuc: t.Any,
    pebble: Pebble,
    trust: Path,
    served: Callable[[], str],
    load: Callable[[], Load],
    internal_again: None,
) -> None:
    pebble.start(20 * 60 + 30)
    with trust.open("a") as file:
        file.write((pebble.directory / "root.pem").read_text())
    # Another URL is another server: its certificates are kept apart from those of the one before.
    short = pebble.variables | {
        "edge_acme_server": f"https://{pebble.address}:14000/dir?short",
        "edge_acme_certificate_hours": 1,
    }
    run = playbook(EDGE_ALONE, **short)
    assert run.returncode == 0, run.stdout[-3000:]
    before = served()
    with load() as asked:
        wait_until(lambda: served() != before, 90, "Traefik has renewed its certificate")
        time.sleep(2)
    unbroken(asked)
    report = playbook(RENEW, **short)
    assert "changed=0" in report.stdout, report.stdout[-2000:]
    assert re.search(r"Certificate \(acme\) for flowaudit\.localhost: until .* 0 days; issued by Pebble", said(report))

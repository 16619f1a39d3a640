"""The files in deploy/ and compose.yaml: what they say holds together, and keeps to the schemas."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.flavour import rsgi_only
from tests.support.server import ROOT

pytestmark = rsgi_only("has files of its own")

#: What the supervisor takes behind the grace: docs/concepts/shutdown.md.
BEHIND_THE_GRACE = 4
#: `--timeout-graceful-shutdown`.
GRACE = 30


def manifests() -> dict[str, dict[str, Any]]:
    """Return the objects of the manifest by their kind."""
    text = (ROOT / "deploy/kubernetes.yaml").read_text()
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_files_of_deployments_keep_to_their_schemas() -> None:
    """By the schemas that the two validators bring along: nothing is fetched."""
    tools = Path(sys.executable).parent
    for line in [
        ["kubernetes-validate", "--strict", "deploy/kubernetes.yaml"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
    ]:
        assert (tools / line[0]).exists(), f"{line[0]} is in tests/requirements.txt"
        ran = subprocess.run([tools / line[0], *line[1:]], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_units_are_what_systemd_understands(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    program = shutil.which("true")
    for name in ["rsgi.socket", "rsgi.service"]:
        # The program and the user are the reader's.
        text = (ROOT / "deploy" / name).read_text()
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", text, flags=re.MULTILINE)
        (tmp_path / name).write_text(text.replace("User=app\n", "User=daemon\n"))
    units = [str(tmp_path / name) for name in ["rsgi.socket", "rsgi.service"]]
    ran = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ours = [line for line in (ran.stdout + ran.stderr).splitlines() if str(tmp_path) in line]
    assert not ours, "\n".join(ours)


def test_a_pod_has_the_time_that_its_stop_may_take() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(re.findall(r"--([\w-]+)=(\d+)", " ".join(container["args"])))
    needed = int(flags["shutdown-delay"]) + int(flags["timeout-graceful-shutdown"])
    assert pod["terminationGracePeriodSeconds"] > needed + BEHIND_THE_GRACE
    assert "lifecycle" not in container


def test_services_and_scalers_mean_the_deployment() -> None:
    objects = manifests()
    deployment = objects["Deployment"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (admin,) = [one["value"] for one in container["env"] if one["name"] == "RSGI_ADMIN_BIND"]
    assert admin == f"0.0.0.0:{ports['admin']}"
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
        assert container[probe]["httpGet"]["port"] == "admin"
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == {"http"}


def test_compose_waits_for_what_it_needs_and_gives_it_time_to_stop() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    app = services["app"]
    assert int(app["stop_grace_period"].rstrip("s")) > GRACE + BEHIND_THE_GRACE
    for name, wanted in app["depends_on"].items():
        assert wanted["condition"] == "service_healthy"
        assert "healthcheck" in services[name]


def test_the_image_knows_every_crate() -> None:
    """Its layer of dependencies is made from the manifests and empty files alone."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    for manifest in (ROOT / "crates").glob("*/Cargo.toml"):
        crate = f"crates/{manifest.parent.name}"
        assert f"COPY {crate}/Cargo.toml {crate}/\n" in dockerfile
        declared = tomllib.loads(manifest.read_text())
        for kind in ["bin", "bench", "example"]:
            for target in declared.get(kind, []):
                if "path" in target:
                    assert f">{crate}/{target['path']} " in dockerfile, target["path"]

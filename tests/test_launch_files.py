"""The files that start several `collect` processes are whole, and their commands are ours."""

import ast
import re
import shlex
import subprocess

import pytest
import yaml
from conftest import ROOT

from harvest.commands.arguments import parser

FOLDER = ROOT / "recipes" / "launch"


def command_in(text: str) -> list[str]:
    """The words after `-m harvest` in a file."""
    found = re.search(r"-m harvest (collect [^\n&]*)", text)
    assert found is not None
    return shlex.split(re.sub(r'"?\$\{?\w+\}?"?', "value", found[1]))


@pytest.mark.parametrize("name", ["collect-slurm.sh", "collect-kubernetes.yaml", "collect-compose.yaml"])
def test_the_command_is_one_that_harvest_takes(name: str) -> None:
    args = parser().parse_args(command_in((FOLDER / name).read_text()))
    assert args.command == "collect"
    assert args.store == "value" or args.store.startswith("postgresql://harvest@db"), "no password stands there"


def test_the_script_for_slurm_is_one_for_bash() -> None:
    subprocess.run(["bash", "-n", FOLDER / "collect-slurm.sh"], check=True)


@pytest.mark.parametrize("name", ["collect-kubernetes.yaml", "collect-compose.yaml"])
def test_the_yaml_is_read_and_every_name_in_it_is_there(name: str) -> None:
    found = yaml.safe_load((FOLDER / name).read_text())
    if "services" in found:
        assert found["services"]["collect"]["depends_on"].keys() <= found["services"].keys()
        return
    spec = found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    (rule,) = found["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert 130 not in rule["onExitCodes"]["values"], "a pod that was told to end may start again"


def test_the_job_for_ray_starts_the_command() -> None:
    source = (FOLDER / "collect_ray.py").read_text()
    tree = ast.parse(source)
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.List)]
    assert "[sys.executable, '-m', 'harvest', 'collect', run, '--store', store]" in calls

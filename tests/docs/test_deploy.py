"""compose.yaml and the image recipes. No container engine is asked: what can be checked without one is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "deploy").rglob("*Dockerfile*"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_compose_file_agrees_with_the_compose_specification() -> None:
    """The schema is the specification's own, from compose-go 2.16.2 (Apache-2.0)."""
    schema = json.loads((ROOT / "tests/data/compose-spec/compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


def test_compose_file_names_only_what_it_declares() -> None:
    services, volumes = COMPOSE["services"], set(COMPOSE["volumes"])
    for name, service in services.items():
        for dependency in service.get("depends_on", {}):
            assert dependency in services, f"{name} depends on {dependency}, which is not there"
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (ROOT / source).exists(), f"{name} mounts {source}, which is not there"
        if build := service.get("build"):
            assert (ROOT / build["dockerfile"]).is_file(), f"{name} is built from {build['dockerfile']}, which is not there"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_image_recipe_passes_the_linter(recipe: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", "--failure-threshold", "style", recipe],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_image_recipe_copies_only_what_is_there(recipe: Path) -> None:
    for line in recipe.read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line and "${" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), f"{source} is not there"

"""The house's order: the same idea has the same file name in every service, the arrows hold, and what is said in the docs is there."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from jobledger_kit.config import ServiceSettings
from jobledger_kit.migrations import migrations_of

ROOT = Path(__file__).parents[2]
SERVICES = {
    path.name: path / f"jobledger_{path.name}" for path in sorted((ROOT / "services").iterdir()) if (path / "pyproject.toml").is_file()
}
PACKAGES = [ROOT / "contracts", ROOT / "kit", ROOT / "client", ROOT / "devstack", *(ROOT / "services" / name for name in SERVICES)]

NEEDED = {
    "__init__.py",
    "__main__.py",
    "app.py",
    "config.py",
    "routes.py",
    "projection.py",
    "store.py",
    "views.py",
    "queries.sql",
    "py.typed",
    "migrations",
}
"""What every service has."""

HOUSE = NEEDED | {"domain", "adapters", "requests.py", "reactors.py", "reconciler.py", "feed.py"}
"""The names that stand for the same idea wherever they stand. A service may have others of its own, which no other service has."""

SYNONYMS = {"main.py", "api.py", "endpoints.py", "handlers.py", "settings.py", "models.py", "schemas.py", "db.py", "repository.py",
            "consumer.py", "tasks.py", "utils.py", "helpers.py", "common.py", "misc.py", "services.py", "dao.py"}  # fmt: skip
"""Names that would say the same in other words, or nothing."""

MAX_MODULE_LINES = 400


def tracked() -> list[Path]:
    """The files that git knows, without those that were deleted a moment ago."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a picture, or captured bytes
    return found


def rooms(package: Path) -> set[str]:
    """The names in a service's package."""
    return {path.name for path in package.iterdir() if not path.name.startswith("__pycache__")}


def test_there_are_three_services() -> None:
    assert set(SERVICES) == {"jobs", "provisioner", "schedulers"}
    assert not (ROOT / "services" / "__init__.py").exists()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_what_every_service_has(service: str) -> None:
    assert rooms(SERVICES[service]) >= NEEDED
    assert (SERVICES[service].parent / "README.md").is_file()
    assert any((SERVICES[service] / "migrations").glob("0001_*.sql"))


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_uses_another_name_for_the_same_idea(service: str) -> None:
    own = rooms(SERVICES[service]) - HOUSE
    assert not own & SYNONYMS
    for other, package in SERVICES.items():
        if other != service:
            assert not own & rooms(package), (
                f"what {service} and {other} both have is an idea of the house: add it to HOUSE, with its meaning"
            )


@pytest.mark.parametrize("service", SERVICES)
def test_every_readme_of_a_service_says_what_it_owns_consumes_and_emits(service: str) -> None:
    text = (SERVICES[service].parent / "README.md").read_text(encoding="utf-8").lower()
    assert all(word in text for word in ("owns", "consumes", "emits"))


@pytest.mark.parametrize("package", ["jobledger_kit", "jobledger_kit.access", *(f"jobledger_{service}" for service in SERVICES)])
def test_migrations_are_numbered_without_gaps(package: str) -> None:
    """Two branches that each took the next number meet here, and not in a service that does not start."""
    assert migrations_of(package)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, relative ones as they are written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


_IMPURE = {"asyncio", "socket", "subprocess", "os", "time", "random", "secrets", "threading", "shutil", "tempfile", "sqlite3"}

PURE = [path for package in SERVICES.values() for path in [package / "projection.py", *package.glob("domain/*.py")]]


@pytest.mark.parametrize("path", PURE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pure_rooms_import_contracts_and_one_another_only(path: Path) -> None:
    allowed = ("jobledger_contracts", "msgspec", ".")
    for name in imports(path):
        standard = name.partition(".")[0] in sys.stdlib_module_names and name.partition(".")[0] not in _IMPURE
        assert standard or name.startswith(allowed), f"{path.relative_to(ROOT)} imports {name}"
    relative = {name for name in imports(path) if name.startswith(".")}
    assert not relative & {".store", "..store", ".app", "..app", ".routes", "..routes"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_module_needs_a_table_of_contents(package: Path) -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in package.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_MODULE_LINES
    }
    assert not long, "split them by concept"


def test_every_query_is_named_and_says_what_it_is_for() -> None:
    for path in tracked():
        if path.suffix != ".sql" or "migrations" in path.parts:
            continue
        for part in path.read_text(encoding="utf-8").split("-- name:")[1:]:
            name, sentence, *_ = part.strip().splitlines()
            assert re.fullmatch(r"[a-z0-9_]+", name.strip()), f"{path.name}: {name}"
            assert sentence.startswith("-- "), f"{path.name}: {name} does not say what it is for"


def test_names_of_test_files_are_unique() -> None:
    """pytest imports them by their bare names."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in set(names) if names.count(name) > 1] == []


class TestMakefile:
    LINES = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()

    def test_every_target_says_what_it_does(self) -> None:
        targets = [line for line in self.LINES if re.match(r"[a-z][a-z_-]*:(?!=)", line)]
        assert len(targets) > 8
        assert [line for line in targets if "## " not in line] == []

    def test_every_target_is_phony_and_declared(self) -> None:
        targets = {line.partition(":")[0] for line in self.LINES if re.match(r"[a-z][a-z_-]*:(?!=)", line)}
        (phony,) = [line for line in self.LINES if line.startswith(".PHONY:")]
        assert set(phony.split()[1:]) == targets

    def test_ci_calls_only_these(self) -> None:
        commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))]
        assert all(re.fullmatch(r"(exec )?make [a-z]+", command) for command in commands)


REGISTRIES = [
    "".join(parts)
    for parts in [
        ("py", "pi.org"), ("python", "hosted.org"), ("repo1.", "maven"), ("repo.", "maven"), ("maven.", "org"), ("registry.", "npmjs"),
        ("npmjs", ".com"), ("deb.", "debian.org"), ("snapshot.", "debian.org"), ("conda.", "anaconda"), ("proxy.", "golang.org"),
        ("crates", ".io"), ("archive.", "ubuntu.com"),
    ]
]  # fmt: skip
"""Where packages come from is the business of whoever installs them: their mirror may have any address."""

ELSEWHERE = ["".join(parts) for parts in [("/work", "/main"), ("/work", "/shared"), ("../", "shared"), ("/ro", "ot/"), ("/tmp/", "brief")]]
"""Paths that are nowhere but on the machine of whoever wrote them."""


def test_no_address_of_a_registry_and_no_path_of_one_machine() -> None:
    found = [(str(path.relative_to(ROOT)), part) for path, text in texts() for part in (*REGISTRIES, *ELSEWHERE) if part in text]
    assert found == []


def test_nothing_is_left_for_later() -> None:
    marks = ["".join(parts) for parts in [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("Magic", "Mock"), ("monkey", "patch")]]
    found = [
        (str(path.relative_to(ROOT)), mark)
        for path, text in texts()
        if path.suffix in (".py", ".sql", ".sh", ".toml", ".yaml")
        for mark in marks
        if re.search(rf"\b{mark}\b", text)
    ]
    assert found == []


DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_documents_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.finditer(text):
        target = link["target"].partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{link['target']} leads nowhere"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_documents_can_be_read_and_its_imports_are_there(path: Path) -> None:
    for block in _PYTHON.finditer(path.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block["code"])):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jobledger"):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], block["code"]


def settings_classes() -> list[type[ServiceSettings]]:
    found: list[type[ServiceSettings]] = []
    for service in SERVICES:
        module = importlib.import_module(f"jobledger_{service}.config")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, ServiceSettings) and value is not ServiceSettings
        ]
    return found


def test_every_service_has_settings_and_every_setting_a_meaning() -> None:
    classes = settings_classes()
    assert len(classes) == len(SERVICES)
    for cls in classes:
        for field in msgspec.structs.fields(cls):
            assert "description=" in repr(field.type), f"{cls.__name__}.{field.name} does not say what it is"


def test_every_setting_is_documented() -> None:
    page = ROOT / "docs" / "reference" / "settings.md"
    if not page.exists():
        pytest.skip("the page of settings is not written yet")
    text = page.read_text(encoding="utf-8")
    names = {f"{cls.prefix}{field.name.upper()}" for cls in settings_classes() for field in msgspec.structs.fields(cls)}
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()

"""What others read of the contracts: schemas, samples, the AsyncAPI document; and that what was released stays as it was."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from jobledger_contracts import catalogue
from jobledger_contracts.envelope import Record, decode, encode
from jobledger_contracts.examples import EXAMPLES

ROOT = Path(__file__).parents[3]
CONTRACTS = ROOT / "contracts"
SAMPLES = sorted((CONTRACTS / "samples").glob("*.json"))
SCHEMAS = sorted((CONTRACTS / "schemas").glob("*.v*.json"))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The generator, which is a script and no module of a package."""
    spec = importlib.util.spec_from_file_location("contracts_generate", CONTRACTS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_is_checked_in_is_what_the_generator_writes() -> None:
    checked = subprocess.run([sys.executable, CONTRACTS / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_version_of_every_type_has_a_schema_and_a_sample() -> None:
    names = {f"{entry.type}.v{version}.json" for entry in catalogue.entries() for version in range(1, entry.version + 1)}
    assert {path.name for path in SAMPLES} == {path.name for path in SCHEMAS} == names
    assert {type(example).__name__ for example in EXAMPLES} == {entry.type for entry in catalogue.entries()}


def test_examples_leave_no_field_at_its_default() -> None:
    for example in EXAMPLES:
        fields = msgspec.structs.fields(type(example))
        assert {field.encode_name for field in fields} == msgspec.to_builtins(example).keys(), type(example).__name__


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_read_as_it_was(path: Path) -> None:
    sample = load(path)
    headers = tuple((name, text.encode()) for name, text in sample["headers"].items())
    record = Record(sample["topic"], sample["partition"], 0, 0, sample["key"].encode(), sample["value"].encode(), headers)
    event = decode(record, sample["partitions"])
    expected = sample["decoded"]
    got = msgspec.to_builtins(msgspec.structs.replace(event, raw_data=b""))
    assert {name: value for name, value in got.items() if name not in ("raw_data", "data")} == {
        name: value for name, value in expected.items() if name != "data"
    }
    if event.version == catalogue.by_struct(type(event.data)).version:
        assert got["data"] == expected["data"]
        key, value, written = encode(event)
        assert (key, json.loads(value), sorted(written)) == (record.key, json.loads(sample["value"]), sorted(headers))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_schema_is_one_and_accepts_its_sample(path: Path) -> None:
    schema = load(path)
    jsonschema.Draft202012Validator.check_schema(schema)
    name, version = path.stem.split(".v")
    assert schema["$id"] == f"urn:jobledger:{name}:{version}"
    assert schema["description"]
    validator = jsonschema.Draft202012Validator(schema)
    data = json.loads(load(CONTRACTS / "samples" / path.name)["value"])
    validator.validate(data)
    validator.validate(data | {"later": "a member that a newer producer adds"})
    for required in schema["required"]:
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({name: value for name, value in data.items() if name != required})


def test_new_fields_have_defaults_unless_they_name_what_the_event_is_about() -> None:
    for path in SCHEMAS:
        schema = load(path)
        optional = schema["properties"].keys() - set(schema["required"])
        assert all("default" in schema["properties"][name] for name in optional), path.name


def test_released_versions_stay_as_they_were(generate: ModuleType) -> None:
    """Members may be added, with defaults; nothing that was released goes away, changes its shape or becomes required."""
    for name, promised in load(CONTRACTS / "schemas" / "released.json").items():
        now = generate.shape(load(CONTRACTS / "schemas" / f"{name}.json"))
        assert promised["members"].items() <= now["members"].items(), f"{name}: a released member was altered: make a new version"
        assert promised["required"] == now["required"], f"{name}: what is required has changed: make a new version"
        digest = hashlib.sha256((CONTRACTS / "samples" / f"{name}.json").read_bytes()).hexdigest()
        assert promised["sample"] == digest, f"{name}: the released sample was altered; samples are kept for ever"


def test_the_lock_sees_what_alters_a_promise_and_only_that(generate: ModuleType) -> None:
    schema = load(CONTRACTS / "schemas" / "JobCreated.v1.json")
    promised = generate.shape(schema)

    def altered(change: Any) -> Any:
        copy = json.loads(json.dumps(schema))
        change(copy)
        now = generate.shape(copy)
        return promised["members"].items() <= now["members"].items() and promised["required"] == now["required"]

    assert altered(lambda s: s["properties"]["name"].update(description="other words"))
    assert altered(lambda s: s["properties"].update(priority={"type": "integer", "default": 0}))
    assert not altered(lambda s: s["properties"]["name"].update(maxLength=10))
    assert not altered(lambda s: s["properties"].pop("description"))
    assert not altered(lambda s: s["required"].append("groups"))
    assert not altered(lambda s: s["$defs"]["CondorSpec"]["properties"].pop("arguments"))


class TestAsyncApi:
    DOCUMENT: Any = yaml.safe_load((CONTRACTS / "schemas" / "asyncapi.yaml").read_text(encoding="utf-8"))

    def test_it_is_valid(self) -> None:
        schema = load(ROOT / "tests" / "data" / "asyncapi" / "asyncapi-3.0.0.json")
        jsonschema.Draft7Validator(schema).validate(self.DOCUMENT)

    def test_every_reference_leads_somewhere(self) -> None:
        def references(part: Any) -> list[str]:
            if isinstance(part, dict):
                own = [part["$ref"]] if "$ref" in part else []
                return own + [found for value in part.values() for found in references(value)]
            return [found for value in part for found in references(value)] if isinstance(part, list) else []

        found = references(self.DOCUMENT)
        assert len(found) > 50
        for reference in found:
            if reference.startswith("./"):
                assert (CONTRACTS / "schemas" / reference).is_file()
                continue
            place: Any = self.DOCUMENT
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]

    def test_it_names_every_topic_and_type(self) -> None:
        channels = {channel["address"]: set(channel["messages"]) for channel in self.DOCUMENT["channels"].values()}
        assert channels == {topic: set(types) for topic, types in catalogue.CATALOGUE.items()}

    @pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
    def test_the_headers_of_every_sample_are_as_it_says(self, path: Path) -> None:
        sample = load(path)
        message = self.DOCUMENT["components"]["messages"][sample["decoded"]["type"]]
        jsonschema.validate(sample["headers"], self.DOCUMENT["components"]["messageTraits"]["cloudEvent"]["headers"])
        if path.stem.endswith(f".v{catalogue.find(sample['topic'], message['name']).version}"):  # type: ignore[union-attr]
            jsonschema.validate(sample["headers"], message["headers"])


def test_the_page_of_transitions_is_linked_to_words_that_exist() -> None:
    page = (ROOT / "docs" / "reference" / "transitions.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "glossary.md").is_file()
    assert page.count("stateDiagram-v2") == 1

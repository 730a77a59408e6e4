"""Templates of submit commands: condorpy's, and those that an app adds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger import condor_job, load_condor_templates, register_condor_template
from jobledger.condor_job import CondorAttributes, condor_template


@pytest.fixture(autouse=True)
def templates() -> Iterator[None]:
    """What a test registers is forgotten with it."""
    before = dict(condor_job.TEMPLATES)
    yield
    condor_job.TEMPLATES.clear()
    condor_job.TEMPLATES.update(before)


def test_condorpys_templates_are_there() -> None:
    assert condor_template("vanilla_transfer_files") == condor_template("vanilla_nfs") == {"universe": "vanilla"}
    with pytest.raises(ValueError, match="there is no template 'vanila'; there are base, vanilla_base"):
        condor_template("vanila")


def test_an_apps_own_template_adds_to_another() -> None:
    register_condor_template("big", {"request_memory": "8GB"}, base="vanilla_base")
    register_condor_template("bigger", {"request_memory": "64GB", "arguments": "--deep 2"}, base="big")
    attributes = CondorAttributes(attributes=condor_template("bigger"))
    assert attributes.attributes == {"universe": "vanilla", "request_memory": "64GB"}
    assert attributes.arguments == ["--deep", "2"]


def test_what_is_built_in_keeps_its_meaning() -> None:
    with pytest.raises(ValueError, match="built in"):
        register_condor_template("base", {})
    with pytest.raises(ValueError, match="there is no template"):
        register_condor_template("mine", {}, base="theirs")
    with pytest.raises(TypeError):
        register_condor_template("mine", {"environment": "A=1"})


def test_templates_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "templates.toml"
    file.write_text('[gpu]\nbase = "vanilla_base"\nrequest_gpus = 1\n"+Project" = "rhine"\n')
    assert load_condor_templates(file) == ["gpu"]
    assert condor_template("gpu") == {"universe": "vanilla", "request_gpus": 1, "+Project": "rhine"}
    file.write_text("gpu = 1\n")
    with pytest.raises(TypeError, match="no table"):
        load_condor_templates(file)

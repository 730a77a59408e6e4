"""The generated document is valid OpenAPI 3.1 and says what the operations say."""

from __future__ import annotations

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from jobledger_kit.http import Allow, Input, operation
from jobledger_kit.openapi import build_openapi
from tests.unit.kit_http.support import ROUTES, NewThing, Thing, client_of, make_app


@pytest.mark.anyio
async def test_the_served_document_is_valid_and_whole() -> None:
    async with client_of(make_app(), "") as client:
        document = (await client.get("/things/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    assert {"/things", "/things/{name}", "/things/files/{path}", "/things/health/live", "/things/openapi.json"} <= document["paths"].keys()


def test_an_operation_is_described() -> None:
    document = build_openapi(ROUTES, title="Things", version="1")
    make = document["paths"]["/things"]["post"]
    assert make["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewThing"}
    assert make["responses"]["201"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert {"201", "400", "401", "403", "413", "415", "422", "503", "default"} == make["responses"].keys()
    assert [p["name"] for p in make["parameters"]] == ["Idempotency-Key"]
    assert document["components"]["schemas"]["NewThing"]["additionalProperties"] is False


def test_query_fields_become_parameters_that_are_never_null() -> None:
    find = build_openapi(ROUTES, title="Things", version="1")["paths"]["/things"]["get"]
    by_name = {parameter["name"]: parameter for parameter in find["parameters"]}
    assert by_name["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
    assert by_name["limit"]["description"] == "how many"
    assert by_name["status"]["schema"]["type"] == "array"
    assert by_name["q"]["schema"] == {"type": "string"}


def test_security_follows_who_is_allowed() -> None:
    paths = build_openapi(ROUTES, title="Things", version="1")["paths"]
    assert paths["/things/anybody"]["get"]["security"] == []
    assert paths["/things/report"]["post"]["security"] == [{"apiKey": []}, {"runCredential": []}]
    assert "security" not in paths["/things"]["post"]  # as the whole document: an API key


def test_a_body_that_accepts_unknown_fields_is_refused_when_it_is_declared() -> None:
    with pytest.raises(TypeError, match="unknown fields"):
        operation("x", body=Thing)
    operation("x", body=NewThing, allow=Allow.PUBLIC)
    assert issubclass(NewThing, Input)

"""The OpenAPI 3.1 document of a service, made from what its operations say of themselves: nothing in it is written twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from starlette.convertors import FloatConvertor, IntegerConvertor, UUIDConvertor
from starlette.routing import Route

from . import errors as e
from .errors import JobledgerError
from .http import PROBLEM_JSON, Allow, Operation, Problem, classify

_REF: Final = "#/components/schemas/{name}"
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_PARAMETER: Final = re.compile(r"{(\w+)(?::\w+)?}")


def build_openapi(routes: Iterable[Route], *, title: str, version: str, description: str = "", server_url: str = "/") -> dict[str, Any]:
    """Describe the routes. Their endpoints carry an `Operation`; raises TypeError for types that JSON Schema cannot
    say, ValueError when two operations have one name."""
    pairs = [(route, _described(route)) for route in routes]
    structs = [Problem, *(kind for _, described in pairs for kind in _types(described))]
    schemas, components = msgspec.json.schema_components(structs, ref_template=_REF)
    # A type may appear several times; each time it has the same schema.
    by_type = {_key(kind): schema for kind, schema in zip(structs, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    taken: set[str] = set()
    for route, described in pairs:
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            name = route.name
            if name in taken:
                name = f"{route.name}_{method.lower()}"
            if name in taken:
                raise ValueError(f"{method} {route.path}: there are two operations named {name}; give the route a name")
            taken.add(name)
            paths.setdefault(_PARAMETER.sub(r"{\1}", route.path), {})[method.lower()] = _operation(
                route, method, name, described, by_type, components
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, **({"description": description} if description else {})},
        "servers": [{"url": server_url}],
        "security": [{"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (jlk_...), or a signed token of the identity provider",
                },
                "runCredential": {"type": "http", "scheme": "bearer", "description": "The credential of one run of a job: jlr_..."},
            },
        },
    }


def _described(route: Route) -> Operation:
    described = getattr(route.endpoint, "__operation__", None)
    if not isinstance(described, Operation):
        raise TypeError(f"the endpoint of {route.path} has no @operation")
    return described


def _types(described: Operation) -> list[Any]:
    return [kind for kind in (described.body, described.query, *described.responses.values()) if kind is not None and kind is not bytes]


def _key(kind: Any) -> Any:
    return kind if isinstance(kind, type) else repr(kind)


def _operation(
    route: Route, method: str, name: str, described: Operation, schemas: Mapping[Any, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    result: dict[str, Any] = {"operationId": name, "summary": described.summary}
    if described.description:
        result["description"] = described.description
    if described.tag:
        result["tags"] = [described.tag]
    if described.allow is Allow.PUBLIC:
        result["security"] = []
    elif described.allow is Allow.RUN:
        result["security"] = [{"apiKey": []}, {"runCredential": []}]
    parameters = [*_path_parameters(route), *_query_parameters(described, schemas, components), *_header_parameters(described)]
    if parameters:
        result["parameters"] = parameters
    if described.body is not None and method in _BODY_METHODS:
        schema = _schema(described.body, schemas)
        result["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in described.body_types}}
    result["responses"] = _responses(described, schemas, bool(parameters), method)
    return result


def _schema(kind: Any, schemas: Mapping[Any, Any]) -> Any:
    return {"type": "string", "contentMediaType": "application/octet-stream"} if kind is bytes else schemas[_key(kind)]


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    kinds = {IntegerConvertor: {"type": "integer"}, FloatConvertor: {"type": "number"}, UUIDConvertor: {"type": "string", "format": "uuid"}}
    return [
        {"name": name, "in": "path", "required": True, "schema": kinds.get(type(convertor), {"type": "string", "minLength": 1})}
        for name, convertor in route.param_convertors.items()
    ]


def _query_parameters(described: Operation, schemas: Mapping[Any, Any], components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if described.query is None:
        return []
    schema = components[schemas[_key(described.query)]["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    parameters = []
    for name, member in schema["properties"].items():
        member = _without_null(member)
        meaning = member.pop("description", None)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": member}
        parameters.append(parameter | ({"description": meaning} if meaning else {}))
    return parameters


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out is never null: there is no way to write null in a query."""
    kept: dict[str, Any] = {name: value for name, value in schema.items() if not (name == "default" and value is None)}
    choices = [choice for choice in kept.pop("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**kept, **choices[0]}
    return kept | ({"anyOf": choices} if choices else {})


def _header_parameters(described: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": meaning}
        for name, meaning in described.headers.items()
    ]


def _responses(described: Operation, schemas: Mapping[Any, Any], parameters: bool, method: str) -> dict[str, Any]:
    """The answers: what the operation says, and the problems that follow from what it takes."""
    responses: dict[str, Any] = {}
    for status, kind in described.responses.items():
        answer: dict[str, Any] = {"description": described.summary}
        if kind is not None:
            answer["content"] = {described.response_type: {"schema": _schema(kind, schemas)}}
        responses[str(status)] = answer
    problems: list[type[JobledgerError]] = [*described.errors]
    if parameters or (described.body is not None and method in _BODY_METHODS):
        problems.append(e.InvalidRequest)
    if described.body is not None and method in _BODY_METHODS:
        problems += (e.UnsupportedMedia, e.TooLarge)
    if described.allow is not Allow.PUBLIC:
        problems += (e.Unauthenticated, e.Forbidden, e.Unavailable)
    titles: dict[int, list[str]] = {}
    for kind in problems:
        status, slug, title = classify(kind)
        text = f"{title} (`{slug}`)"
        if text not in titles.setdefault(status, []):
            titles[status].append(text)
    content = {PROBLEM_JSON: {"schema": schemas[Problem]}}
    for status, texts in sorted(titles.items()):
        responses.setdefault(str(status), {"description": "; ".join(texts), "content": content})
    responses["default"] = {"description": "Anything else that went wrong", "content": content}
    return responses

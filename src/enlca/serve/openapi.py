"""The description of the interface (OpenAPI 3.1), and a page of it that loads nothing from elsewhere."""

import html
from collections.abc import Mapping
from typing import Any

from enlca.serve.engine import Model
from enlca.serve.limits import Limits
from enlca.serve.wanted import FORMATS, LONGEST, QUALITY

# The page has no scripts, and its style is its own.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_FAILURES = {
    400: "The body is malformed.",
    401: "The token is missing or wrong.",
    408: "The body comes too slowly.",
    413: "The body, the picture or its result is larger than this server allows.",
    415: "The body is no picture.",
    422: "A parameter is wrong, or the picture cannot be read or written as asked.",
    500: "The server failed.",
    503: "The queue is full: try again after the seconds in Retry-After.",
    504: "Not done within the time that this server allows.",
    507: "The server's disk is full.",
}


def described(models: Mapping[str, Model], limits: Limits, *, has_token: bool) -> dict[str, Any]:
    """Return the OpenAPI document of a server."""
    import enlca

    largest = max(scale for model in models.values() for scale in model.scales)
    side = {"type": "integer", "minimum": 1, "maximum": LONGEST}
    parameters = [
        _parameter("model", {"enum": list(models), "default": next(iter(models))}, "One of /v1/models."),
        _parameter(
            "scale",
            {"type": "number", "exclusiveMinimum": 0, "maximum": largest},
            "The factor; not with width or height.",
        ),
        _parameter("width", side, "Exact width of the result, in pixels."),
        _parameter("height", side, "Exact height of the result, in pixels."),
        _parameter("format", {"enum": list(FORMATS), "default": "png"}, "Format of the result."),
        _parameter(
            "quality",
            {"type": "integer", "minimum": 1, "maximum": 100, "default": QUALITY},
            "Of jpg, webp and avif.",
        ),
    ]
    binary = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"picture": binary}}
    sizes = f"at most {limits.max_body} bytes and {limits.max_pixels} pixels"
    body = {
        "description": f"The file of a picture, {sizes}.",
        "required": True,
        "content": {"application/octet-stream": {}, "multipart/form-data": {"schema": form}},
    }
    failure = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    failures = {
        str(status): {"description": text, "content": {"application/json": {"schema": failure}}}
        for status, text in _FAILURES.items()
        if status != 401 or has_token
    }
    picture = {"description": "The upscaled picture.", "content": {kind: {} for kind in FORMATS.values()}}
    upscale = {
        "summary": "Upscale a picture.",
        "parameters": parameters,
        "requestBody": body,
        "responses": {"200": picture, **failures},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "enlca serve", "version": enlca.__version__},
        "paths": {
            "/v1/upscale": {"post": upscale},
            "/v1/models": {"get": _read("The models and their scales.", "application/json")},
            "/healthz": {"get": _read("That the server lives; needs no token.", "application/json")},
            "/metrics": {"get": _read("Counters for Prometheus.", "text/plain")},
        },
    }
    if has_token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def page(document: dict[str, Any]) -> str:
    """Return the document as a page to read."""
    upscale = document["paths"]["/v1/upscale"]["post"]
    parameters = [(one["name"], one["description"], _range(one["schema"])) for one in upscale["parameters"]]
    answers = [(status, one["description"], "") for status, one in upscale["responses"].items()]
    others = [
        (path, methods["get"]["summary"], "")
        for path, methods in document["paths"].items()
        if "get" in methods
    ]
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}
td {{ padding: 0.2em 1.5em 0.2em 0; vertical-align: top }} code, pre {{ background: #eee }}</style>
<h1>{title}</h1>
<pre>curl --data-binary @photo.jpg 'http://HOST:PORT/v1/upscale?scale=4&amp;format=png' -o photo_x4.png
curl -F picture=@photo.jpg 'http://HOST:PORT/v1/upscale' -o photo_x4.png</pre>
<h2>POST /v1/upscale</h2><p>{html.escape(upscale["requestBody"]["description"])}</p>
{_table(parameters)}<h2>Responses</h2>{_table(answers)}<h2>GET</h2>{_table(others)}
<p>For programs: <a href="/openapi.json">openapi.json</a></p></html>"""


def _parameter(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _read(summary: str, kind: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {kind: {}}}}}


def _range(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    return f"{schema.get('minimum', 'above 0')} to {schema['maximum']}"


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>\n"

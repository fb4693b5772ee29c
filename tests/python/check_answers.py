"""Checks an OpenAPI description, and answers of a server by it.

Arguments: files with the description and with a list of exchanges, each with `method`, `path`, `asked` (the body,
or null), `status`, `headers` and `body`. Prints which statuses each operation was seen to answer; ends with 1 where
something is not as described.
"""

import json
import re
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012


class Description:
    def __init__(self, document):
        validate(document)
        self.document = document
        resource = Resource(contents=document, specification=DRAFT202012)
        self.registry = Registry().with_resource("urn:description", resource)

    def resolved(self, part):
        """What a part refers to, where it does."""
        if "$ref" not in part:
            return part
        found = self.document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found

    def operation(self, method, path):
        """The operation that a request is for."""
        for template, operations in self.document["paths"].items():
            pattern = re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(template))
            if re.fullmatch(pattern, path.split("?")[0]) and method in operations:
                return operations[method]
        raise AssertionError("no operation is described")

    def check(self, schema, value):
        """Requires that a value is as its schema says."""
        # References are to the whole document.
        whole = json.loads(json.dumps(schema).replace('"#/', '"urn:description#/'))
        validator = Draft202012Validator(whole, registry=self.registry, format_checker=FormatChecker())
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not found, "; ".join(found)

    def check_exchange(self, exchange):
        """Requires that an exchange is as described; returns whose it is."""
        operation = self.operation(exchange["method"], exchange["path"])
        status, headers = exchange["status"], exchange["headers"]
        assert str(status) in operation["responses"], f"{status} is not described"
        response = self.resolved(operation["responses"][str(status)])
        described = {name.lower() for name in response.get("headers", {})}
        if "retry-after" in headers:
            assert "retry-after" in described, "Retry-After is not described"
            schema = self.resolved(response["headers"]["Retry-After"])["schema"]
            self.check(schema, int(headers["retry-after"]))
        if "content" not in response:
            assert exchange["body"] == "", "a body is not described"
        else:
            media = headers["content-type"].split(";")[0]
            assert media in response["content"], f"{media} is not described"
            schema = response["content"][media]["schema"]
            body = exchange["body"]
            self.check(schema, json.loads(body) if media.endswith("json") else body)
        asked = exchange["asked"]
        if asked is not None and status < 300:
            content = operation["requestBody"]["content"]
            self.check(content["application/json"]["schema"], asked)
        return operation["operationId"], status


def main(description_path, exchanges_path):
    with open(description_path, encoding="utf-8") as file:
        description = Description(json.load(file))
    with open(exchanges_path, encoding="utf-8") as file:
        exchanges = json.load(file)
    answered, wrong = {}, []
    for exchange in exchanges:
        try:
            operation, status = description.check_exchange(exchange)
            answered.setdefault(operation, []).append(status)
        except AssertionError as error:
            wrong.append(f"{exchange['method']} {exchange['path']} -> {exchange['status']}: {error}\n{exchange['body'][:500]}")
    if wrong:
        sys.exit("\n".join(wrong))
    json.dump(answered, sys.stdout)


main(*sys.argv[1:])

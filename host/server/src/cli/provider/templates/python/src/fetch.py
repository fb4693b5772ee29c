"""`fetch` over countersign's `http` interface.

As on the web, with what the host adds: it puts credentials in, follows no redirect, reaches granted
hosts only, and hands over whole answers. At most 8 requests in one call.
"""

import json
from collections.abc import Mapping

from componentize_py_types import Err
from wit_world.imports import http


class NoAnswer(Exception):
    """There is no answer.

    `maybe_sent` is false where not a byte was written, so that it can be repeated; where it is true
    the other side may have the request.
    """

    def __init__(self, failure: http.Failure):
        super().__init__(failure.text)
        self.maybe_sent = failure.maybe_sent


class Response:
    """A whole answer, whatever its status."""

    def __init__(self, response: http.Response):
        self.status = response.status
        self.ok = 200 <= response.status < 300
        #: Names are in lower case.
        self.headers = dict(response.headers)
        self.body = response.body

    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self):
        """Raises a `ValueError` where the body is no JSON."""
        return json.loads(self.body)


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: str | bytes | Mapping[str, str] | None = None,
    authorization: http.Authorization | None = None,
    timeout: int | None = None,
) -> Response:
    """Sends a request and waits for the whole answer. An HTTP error status is an answer.

    `body`: text, bytes, or the fields of a form, which the host encodes.
    `authorization`: a case of the variant in wit/http.wit, for example
    `http.Authorization_Bearer("api-key")`, with the names of credentials in the place of their values.
    `timeout`: milliseconds; the operator's limit unless it is shorter.

    Raises `NoAnswer`.
    """
    request = http.Request(
        method=http.Method[method.upper()],
        url=url,
        headers=list((headers or {}).items()),
        body=_body(body),
        authorization=authorization or http.Authorization_None_(),
        timeout=timeout,
        attributes=[],
    )
    try:
        return Response(http.send(request))
    except Err as error:
        raise NoAnswer(error.value) from None


def _body(body) -> http.Body:
    match body:
        case None:
            return http.Body_Empty()
        case str():
            return http.Body_Bytes(body.encode())
        case bytes():
            return http.Body_Bytes(body)
        case _:
            return http.Body_Form(list(body.items()))

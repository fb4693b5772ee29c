"""{{name}}: a provider component of countersign.

This file speaks to the host: it says what the component is, makes one request for each message, and
has the host check the signature of each callback. What the company's words mean is in api.py. Every
bound is in the comments of wit/. The error of a `result` is raised as `Err`; any other exception ends
the call, and the host judges by what it saw of the request.
"""

import time

import api
from componentize_py_types import Err
from fetch import NoAnswer, Response, fetch
from wit_world.exports import sender
from wit_world.exports.sender import CallbackError, ErrorClass
from wit_world.imports import http, settings, signatures

# Where the company's API is, unless the setting `base-url` says otherwise.
BASE_URL = "https://api.example.com"
# Credentials have names here, and nothing else: the host puts them in.
API_KEY = "api-key"
WEBHOOK_SECRET = "webhook-secret"
# One call may make 8 requests, so it can ask for 8 messages.
ASKED_MAX = 8


class Sender:
    """The component's export."""

    def describe(self) -> sender.Manifest:
        """Asked once, when the component is loaded; no import may be used here."""
        def setting(name: str, description: str, required: bool) -> sender.Setting:
            return sender.Setting(name, description, required, [])

        return sender.Manifest(
            name="{{name}}",
            version="0.1.0",
            settings=[
                setting("from", "The sender: a number in E.164 or a name.", True),
                setting("base-url", f"Where the API is, by default {BASE_URL}.", False),
            ],
            credentials=[
                setting(API_KEY, "An API key.", True),
                setting(WEBHOOK_SECRET, "What signs the company's callbacks.", False),
            ],
            hosts=["api.example.com"],
            attributes=[("fetch-status", "supported")],
        )

    def send(self, message: sender.Message) -> sender.Accepted:
        body = api.body(message, message.sender or settings.get("from"))
        response = request("/v1/messages", method="POST", body=body)
        if not response.ok:
            raise Err(api.refusal(response))
        accepted = api.accepted(api.parsed(response.body))
        if accepted is None:
            # Taken, as its status says, and nobody can say under which id: it may be on its way.
            raise Err(api.failure(ErrorClass.UNKNOWN_OUTCOME, "the answer cannot be read"))
        return accepted

    def parse_callback(self, callback: sender.Callback) -> sender.News:
        """Anybody can send a callback: the host drops what this tells, unless a signature has held."""
        if not is_signed(callback):
            raise Err(CallbackError.UNSIGNED)
        update = api.update(api.parsed(callback.body))
        if update is None:
            raise Err(CallbackError.MALFORMED)
        return sender.News([update], [], answer=None, attributes=[])

    def fetch_status(self, ids: list[str]) -> list[sender.StatusUpdate]:
        """For lost receipts and late prices. Asking changes nothing, so it can always be repeated."""
        updates = []
        for id in [id for id in ids if api.is_id(id)][:ASKED_MAX]:
            try:
                response = request(f"/v1/messages/{id}")
                if not response.ok and response.status != 404:
                    raise Err(api.refusal(response))
            except Err as error:
                raise Err(api.repeatable(error.value)) from None
            update = api.update(api.parsed(response.body)) if response.ok else None
            if update is not None:
                updates.append(update)
        return updates


def request(path: str, **more) -> Response:
    """One request, authorized by the host.

    Without an answer the company may have the message, unless not a byte of the request was written.
    """
    base = (settings.get("base-url") or BASE_URL).rstrip("/")
    try:
        return fetch(
            base + path,
            headers={"content-type": "application/json"},
            authorization=http.Authorization_Bearer(API_KEY),
            **more,
        )
    except NoAnswer as failure:
        unknown = ErrorClass.UNKNOWN_OUTCOME if failure.maybe_sent else ErrorClass.RETRYABLE
        raise Err(api.failure(unknown, str(failure))) from None


def is_signed(callback: sender.Callback) -> bool:
    """The company signs `TIME.BODY` with HMAC-SHA256. The host compares, and remembers that it held."""
    headers = dict(callback.headers)
    at = headers.get("x-timestamp", "")
    given = api.unhex(headers.get("x-signature", "").removeprefix("sha256="))
    key = signatures.Key(WEBHOOK_SECRET, signatures.KeyEncoding.TEXT)
    signed = f"{at}.".encode() + callback.body
    return api.is_recent(at, time.time()) and signatures.verify_hmac(
        signatures.Hash.SHA256, key, signed, given
    )

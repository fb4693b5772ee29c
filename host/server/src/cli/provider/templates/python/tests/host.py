"""A host for tests: what the imports of the world are here, and what a test sets in it.

The words come from bindings/, which build.py writes.
"""

import hashlib
import hmac
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path[:0] = [str(PROJECT / "bindings"), str(PROJECT / "src")]

try:
    from componentize_py_types import Err
    from wit_world.imports import http, log, settings, signatures
except ModuleNotFoundError:
    sys.exit("there is no bindings/: type `python3 build.py` first")


class Host:
    """Answers requests with `answers` in turn: `(status, body, headers)`, or a failure."""

    def __init__(self):
        self.settings = {"from": "Example"}
        self.credentials = {"api-key": "key-1", "webhook-secret": "secret-1"}
        self.answers = []
        self.requests = []
        self.lines = []
        # The bindings' own functions only say that there is no host.
        http.send = self.send
        settings.get = self.settings.get
        log.log = lambda level, message: self.lines.append((level, message))
        signatures.verify_hmac = self.verify_hmac

    def send(self, request: http.Request) -> http.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, http.Failure):
            raise Err(answer)
        status, body, headers = answer
        return http.Response(status, headers, body.encode(), [])

    def verify_hmac(self, algorithm, key, data, given) -> bool:
        secret = self.credentials.get(key.credential)
        if secret is None:
            return False
        right = hmac.new(secret.encode(), data, getattr(hashlib, algorithm.name.lower()))
        return hmac.compare_digest(right.digest(), given)

import hashlib
import hmac
import json
import time
import unittest

from tests.host import Err, Host, http

import api
import app
from wit_world.exports.sender import Callback, CallbackError, ErrorClass, Message, Status

MESSAGE = Message(
    id="0123456789abcdef0123456789abcdef",
    channel="sms",
    to="+12025550123",
    country="US",
    text="Your code: 123456",
    template="verification",
    variables=[],
    code="123456",
    locale=None,
    purpose="verification",
    sender=None,
    validity=600_000,
    status_callback=None,
    attributes=[],
)


def signed(body: str, at: int | None = None) -> Callback:
    at = at or int(time.time())
    mac = hmac.new(b"secret-1", f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    headers = [("x-timestamp", str(at)), ("x-signature", f"sha256={mac}")]
    return Callback("POST", "https://sms.example.test/webhooks/x", headers, body.encode(), [])


class TestApp(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.sender = app.Sender()

    def refused(self, answer):
        self.host.answers.append(answer)
        with self.assertRaises(Err) as raised:
            self.sender.send(MESSAGE)
        return raised.exception.value

    def test_a_message_is_posted_as_json_with_a_credential_that_is_only_named(self):
        taken = {"id": "m-1", "parts": 2, "price": {"amount": "0.0079", "currency": "EUR"}}
        self.host.answers.append((202, json.dumps(taken), []))
        accepted = self.sender.send(MESSAGE)
        self.assertEqual((accepted.ids, accepted.segments), (["m-1"], 2))
        self.assertEqual((accepted.price.amount, accepted.price.currency), ("0.0079", "EUR"))
        [request] = self.host.requests
        self.assertEqual(request.url, "https://api.example.com/v1/messages")
        self.assertEqual(request.authorization, http.Authorization_Bearer("api-key"))
        wanted = {
            "to": "+12025550123",
            "from": "Example",
            "text": "Your code: 123456",
            "reference": MESSAGE.id,
            "validity_seconds": 600,
            "callback_url": None,
        }
        self.assertEqual(json.loads(request.body.value), wanted)

    def test_every_refusal_has_its_class(self):
        for status, code, wanted in [
            (400, "invalid-number", ErrorClass.PERMANENT),
            (400, "opted-out", ErrorClass.BLOCKED),
            (400, "unknown-sender", ErrorClass.AUTH),
            (401, None, ErrorClass.AUTH),
            (429, None, ErrorClass.THROTTLED),
            (302, None, ErrorClass.RETRYABLE),
            (503, None, ErrorClass.UNKNOWN_OUTCOME),
        ]:
            error = self.refused((status, json.dumps({"error": {"code": code, "message": "No"}}), []))
            self.assertEqual((error.class_, error.text), (wanted, f"HTTP {status}: No"))

    def test_a_throttled_message_waits_as_long_as_the_company_says(self):
        error = self.refused((429, "<html>", [("retry-after", "7")]))
        self.assertEqual((error.class_, error.retry_after), (ErrorClass.THROTTLED, 7_000))

    def test_without_an_answer_the_message_may_be_on_its_way_unless_nothing_was_written(self):
        for answer, wanted in [
            (http.Failure("refused", False, []), ErrorClass.RETRYABLE),
            (http.Failure("cut", True, []), ErrorClass.UNKNOWN_OUTCOME),
            ((200, "<html>", []), ErrorClass.UNKNOWN_OUTCOME),
        ]:
            self.assertEqual(self.refused(answer).class_, wanted)

    def test_an_answer_without_an_id_that_the_host_takes_is_none(self):
        for answer in [{}, {"id": ""}, {"id": 7}, {"id": "a/b"}, {"id": "x" * 129}]:
            self.assertIsNone(api.accepted(answer))
        for body in [b"", b"[]", b"7", b"\xff"]:
            self.assertEqual(api.parsed(body), {})

    def test_a_signed_callback_tells_what_became_of_a_message(self):
        callback = signed('{"id":"m-1","status":"expired","error_code":"E7"}')
        [update] = self.sender.parse_callback(callback).updates
        self.assertEqual((update.status, update.error.provider_code), (Status.UNDELIVERED, "E7"))

    def test_a_callback_that_is_forged_changed_old_or_unsigned_is_not_believed(self):
        body = '{"id":"m-1","status":"delivered"}'
        changed, short, bare = signed(body), signed(body), signed(body)
        changed.body = body.replace("m-1", "m-2").encode()
        short.headers[1] = ("x-signature", "sha256=00")
        bare.headers = []
        old = signed(body, int(time.time()) - 301)
        for callback in [changed, short, bare, old]:
            with self.assertRaises(Err) as raised:
                self.sender.parse_callback(callback)
            self.assertEqual(raised.exception.value, CallbackError.UNSIGNED)
        with self.assertRaises(Err) as raised:
            self.sender.parse_callback(signed("<html>"))
        self.assertEqual(raised.exception.value, CallbackError.MALFORMED)

    def test_the_company_is_asked_what_became_of_messages_that_it_knows(self):
        self.host.answers += [(200, '{"id":"m-1","status":"delivered"}', []), (404, "", [])]
        updates = self.sender.fetch_status(["m-1", "m-2", "a/b"])
        self.assertEqual([(update.id, update.status) for update in updates], [("m-1", Status.DELIVERED)])
        self.assertEqual(self.host.requests[0].url, "https://api.example.com/v1/messages/m-1")
        self.host.answers.append((500, "", []))
        with self.assertRaises(Err) as raised:
            self.sender.fetch_status(["m-1"])
        self.assertEqual(raised.exception.value.class_, ErrorClass.RETRYABLE)


if __name__ == "__main__":
    unittest.main()

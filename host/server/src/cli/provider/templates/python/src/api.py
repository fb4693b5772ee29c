"""The company's API: what it is sent, and what its words mean. Put yours in the place of this one."""

import json
import re

from wit_world.exports.sender import (
    Accepted,
    ErrorClass,
    Message,
    Price,
    SendError,
    Status,
    StatusUpdate,
)

# A callback that was signed longer ago, or so much later than now, may be somebody's copy.
AGE_MAX_SECONDS = 300

STATUSES = {
    "queued": Status.QUEUED,
    # That the network has it does not mean that somebody has read it.
    "sent": Status.SENT,
    "delivered": Status.DELIVERED,
    "undelivered": Status.UNDELIVERED,
    "expired": Status.UNDELIVERED,
    "failed": Status.FAILED,
}


def body(message: Message, sender: str | None) -> str:
    """The JSON of a message. `message.text` is ready to be sent: leave it as it is."""
    fields = {
        "to": message.to,
        "from": sender,
        "text": message.text,
        # The same when the message is sent again, so that the company can take it once.
        "reference": message.id,
        # After that nobody wants it any more.
        "validity_seconds": message.validity // 1_000,
        "callback_url": message.status_callback,
    }
    return json.dumps(fields)


def accepted(answer: dict) -> Accepted | None:
    """Reads the answer to a message that was taken; none where it names no id."""
    if not is_id(answer.get("id")):
        return None
    return Accepted([answer["id"]], segments(answer), price(answer), [])


def refusal(response) -> SendError:
    """Why a message was not taken, by what the company says of it."""
    error = parsed(response.body).get("error")
    error = error if isinstance(error, dict) else {}
    code = error.get("code")
    code = code if isinstance(code, str) else None
    said = error.get("message")
    return SendError(
        class_=class_of(response.status, code),
        retry_after=retry_after(response.headers.get("retry-after", "")),
        provider_code=code,
        text=f"HTTP {response.status}: {said}" if said else f"HTTP {response.status}",
        attributes=[],
    )


def class_of(status: int, code: str | None) -> ErrorClass:
    """The class is what the queue acts on, so choose it by what you know of this very message."""
    # It may have been sent all the same: sent again for one-time codes only.
    if status >= 500:
        return ErrorClass.UNKNOWN_OUTCOME
    if status == 429:
        return ErrorClass.THROTTLED
    # The operator's account; another provider takes over.
    if status in (401, 402) or code == "unknown-sender":
        return ErrorClass.AUTH
    if code in ("opted-out", "country-not-enabled"):
        return ErrorClass.BLOCKED
    # This number or this text will never do.
    if status >= 400:
        return ErrorClass.PERMANENT
    # A redirect, which the host does not follow: it was not sent.
    return ErrorClass.RETRYABLE


def retry_after(seconds: str) -> int | None:
    """`Retry-After` in seconds, as milliseconds."""
    return int(seconds) * 1_000 if re.fullmatch("[0-9]{1,9}", seconds) else None


def update(news: dict) -> StatusUpdate | None:
    """News of a message, from a callback or from asking."""
    status = STATUSES.get(str(news.get("status")))
    if status is None or not is_id(news.get("id")):
        return None
    code = news.get("error_code")
    return StatusUpdate(
        id=news["id"],
        status=status,
        error=failure(ErrorClass.UNKNOWN_OUTCOME, code, code) if isinstance(code, str) else None,
        at=None,
        price=price(news),
        segments=segments(news),
        attributes=[],
    )


def is_id(value) -> bool:
    """Whether the host takes it for an id, and it means nothing else in a URL."""
    return isinstance(value, str) and re.fullmatch("[A-Za-z0-9_-]{1,128}", value) is not None


def segments(answer: dict) -> int | None:
    parts = answer.get("parts")
    return parts if type(parts) is int and 0 <= parts < 2**32 else None


def price(answer: dict) -> Price | None:
    """A decimal as text: a number of JSON may come out as 0.0078999999."""
    match answer.get("price"):
        case {"amount": str(amount), "currency": str(currency)}:
            return Price(amount, currency)
    return None


def failure(error_class: ErrorClass, text: str, code: str | None = None) -> SendError:
    """An error without more than its class.

    Say what happened and cut nothing: the host takes numbers, codes and credentials out of the text,
    and cuts it then.
    """
    return SendError(error_class, None, code, text, [])


def repeatable(error: SendError) -> SendError:
    """The error of a question, which sends nothing."""
    if error.class_ is ErrorClass.UNKNOWN_OUTCOME:
        error.class_ = ErrorClass.RETRYABLE
    return error


def parsed(body: bytes) -> dict:
    """The object that `body` is in JSON; an empty one where it is none."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def is_recent(at: str, now: float) -> bool:
    """Whether `at`, in seconds since 1970, is about `now`."""
    return re.fullmatch("[0-9]{1,12}", at) is not None and abs(int(at) - now) <= AGE_MAX_SECONDS


def unhex(text: str) -> bytes:
    """The bytes that hexadecimal digits stand for; none where they are none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""

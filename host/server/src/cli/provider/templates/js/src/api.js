// The company's API: what it is sent, and what its words mean. Put yours in the place of this one.

/** A callback that was signed longer ago, or so much later than now, may be somebody's copy. */
const AGE_MAX_SECONDS = 300;

/** The JSON of a message. `message.text` is ready to be sent: leave it as it is. */
export function body(message, from) {
  return JSON.stringify({
    to: message.to,
    from,
    text: message.text,
    // The same when the message is sent again, so that the company can take it once.
    reference: message.id,
    // After that nobody wants it any more. The WIT's `u64` is a `bigint` here.
    validity_seconds: Number(message.validity / 1_000n),
    callback_url: message.statusCallback,
  });
}

/** Reads the answer to a message that was taken; `undefined` where it names no id. */
export function accepted(answer) {
  if (!isId(answer?.id)) return undefined;
  return { ids: [answer.id], segments: segments(answer), price: price(answer), attributes: [] };
}

/** Why a message was not taken, by what the company says of it. */
export function refusal(response) {
  const { code, message } = parsed(response.text())?.error ?? {};
  const said = message ? `: ${message}` : '';
  return {
    ...failure(classOf(response.status, code), `HTTP ${response.status}${said}`),
    retryAfter: retryAfter(response.headers.get('retry-after')),
    providerCode: typeof code === 'string' ? code : undefined,
  };
}

/** The class is what the queue acts on, so choose it by what you know of this very message. */
export function classOf(status, code) {
  // It may have been sent all the same: sent again for one-time codes only.
  if (status >= 500) return 'unknown-outcome';
  if (status === 429) return 'throttled';
  // The operator's account; another provider takes over.
  if (status === 401 || status === 402 || code === 'unknown-sender') return 'auth';
  if (code === 'opted-out' || code === 'country-not-enabled') return 'blocked';
  // This number or this text will never do.
  if (status >= 400) return 'permanent';
  // A redirect, which the host does not follow: it was not sent.
  return 'retryable';
}

/** `Retry-After` in seconds, as milliseconds. */
export function retryAfter(seconds) {
  return /^\d{1,9}$/.test(seconds ?? '') ? BigInt(seconds) * 1_000n : undefined;
}

/** News of a message, from a callback or from asking; `undefined` where there are none. */
export function update(news) {
  const status = STATUSES.get(news?.status);
  if (!isId(news?.id) || !status) return undefined;
  const code = news.error_code;
  return {
    id: news.id,
    status,
    error: typeof code === 'string' ? { ...failure('unknown-outcome', code), providerCode: code } : undefined,
    at: undefined,
    price: price(news),
    segments: segments(news),
    attributes: [],
  };
}

const STATUSES = new Map([
  ['queued', 'queued'],
  // That the network has it does not mean that somebody has read it.
  ['sent', 'sent'],
  ['delivered', 'delivered'],
  ['undelivered', 'undelivered'],
  ['expired', 'undelivered'],
  ['failed', 'failed'],
]);

/** Whether the host takes it for an id, and it means nothing else in a URL. */
export function isId(id) {
  return typeof id === 'string' && /^[A-Za-z0-9_-]{1,128}$/.test(id);
}

function segments({ parts }) {
  return Number.isInteger(parts) && parts >= 0 && parts < 2 ** 32 ? parts : undefined;
}

/** A decimal as text: a number of JSON may come out as 0.0078999999. */
function price({ price }) {
  const { amount, currency } = price ?? {};
  return typeof amount === 'string' && typeof currency === 'string' ? { amount, currency } : undefined;
}

/**
 * An error without more than its class. Say what happened and cut nothing: the host takes numbers,
 * codes and credentials out of the text, and cuts it then.
 */
export function failure(errorClass, text) {
  return { class: errorClass, retryAfter: undefined, providerCode: undefined, text, attributes: [] };
}

/** The error of a question, which sends nothing. */
export function repeatable(error) {
  return error.class === 'unknown-outcome' ? { ...error, class: 'retryable' } : error;
}

/** What `text` says in JSON; `undefined` where it is none. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether `at`, in seconds since 1970, is about now. */
export function isRecent(at, nowSeconds) {
  return /^\d{1,12}$/.test(at) && Math.abs(Number(at) - nowSeconds) <= AGE_MAX_SECONDS;
}

/** The bytes that hexadecimal digits stand for; `undefined` where they are none. */
export function unhex(text) {
  if (!/^([0-9a-f]{2})+$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
}

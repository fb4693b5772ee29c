// A host for tests: what the imports `countersign:provider/…` are here, and what a test sets in it.
import { createHmac, timingSafeEqual } from 'node:crypto';

/** Starts anew. `answers` are given to requests in turn: `[status, body, headers]`, or a failure. */
export const host = {
  settings: { from: 'Example' },
  credentials: { 'api-key': 'key-1', 'webhook-secret': 'secret-1' },
  answers: [],
  requests: [],
  lines: [],
};

// countersign:provider/http
export function send(request) {
  host.requests.push(request);
  const answer = host.answers.shift() ?? { text: 'the test has no answer', maybeSent: false, attributes: [] };
  if (!Array.isArray(answer)) throw Object.assign(new Error('http'), { payload: answer });
  const [status, body, headers = []] = answer;
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return { status, headers, body: new TextEncoder().encode(text), attributes: [] };
}

// countersign:provider/settings
export function get(name) {
  return host.settings[name];
}

// countersign:provider/log
export function log(level, message) {
  host.lines.push([level, message]);
}

// countersign:provider/signatures
export function verifyHmac(algorithm, key, data, given) {
  const secret = host.credentials[key.credential];
  if (secret === undefined) return false;
  const right = createHmac(algorithm, Buffer.from(secret, { text: 'utf8' }[key.encoding] ?? key.encoding));
  const digest = right.update(data).digest();
  return digest.length === given.length && timingSafeEqual(digest, given);
}

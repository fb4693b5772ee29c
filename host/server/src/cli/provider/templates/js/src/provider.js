// {{name}}: a provider component of countersign.
//
// This file speaks to the host: it says what the component is, makes one request for each message,
// and has the host check the signature of each callback. What the company's words mean is in api.js.
// Every bound is in the comments of wit/. A `result`'s error is thrown; anything else that is thrown
// ends the call, and the host judges by what it saw of the request.
import { get } from 'countersign:provider/settings@0.1.0';
import { verifyHmac } from 'countersign:provider/signatures@0.1.0';
import * as api from './api.js';
import { fetch, NoAnswer } from './fetch.js';

// Where the company's API is, unless the setting `base-url` says otherwise.
const BASE_URL = 'https://api.example.com';
// Credentials have names here, and nothing else: the host puts them in.
const API_KEY = 'api-key';
const WEBHOOK_SECRET = 'webhook-secret';
// One call may make 8 requests, so it can ask for 8 messages.
const ASKED_MAX = 8;

/** Asked once, when the component is loaded; no import may be used here. */
function describe() {
  const setting = (name, description, required) => ({ name, description, required, attributes: [] });
  return {
    name: '{{name}}',
    version: '0.1.0',
    settings: [
      setting('from', 'The sender: a number in E.164 or a name.', true),
      setting('base-url', `Where the API is, by default ${BASE_URL}.`, false),
    ],
    credentials: [
      setting(API_KEY, 'An API key.', true),
      setting(WEBHOOK_SECRET, "What signs the company's callbacks.", false),
    ],
    hosts: ['api.example.com'],
    attributes: [['fetch-status', 'supported']],
  };
}

async function send(message) {
  const body = api.body(message, message.sender ?? get('from'));
  const response = await request('/v1/messages', { method: 'POST', body });
  if (!response.ok) throw api.refusal(response);
  const accepted = api.accepted(api.parsed(response.text()));
  // Taken, as its status says, and nobody can say under which id: it may be on its way.
  if (!accepted) throw api.failure('unknown-outcome', 'the answer cannot be read');
  return accepted;
}

/** Anybody can send a callback: the host drops what this tells, unless a signature has held. */
function parseCallback(callback) {
  if (!isSigned(callback)) throw 'unsigned';
  const update = api.update(api.parsed(new TextDecoder().decode(callback.body)));
  if (!update) throw 'malformed';
  return { updates: [update], replies: [], answer: undefined, attributes: [] };
}

/** For lost receipts and late prices. Asking changes nothing, so it can always be repeated. */
async function fetchStatus(ids) {
  const updates = [];
  for (const id of ids.filter(api.isId).slice(0, ASKED_MAX)) {
    const response = await request(`/v1/messages/${id}`).catch((error) => {
      throw api.repeatable(error);
    });
    const update = response.ok && api.update(api.parsed(response.text()));
    if (update) updates.push(update);
    else if (!response.ok && response.status !== 404) throw api.repeatable(api.refusal(response));
  }
  return updates;
}

/**
 * One request, authorized by the host. Without an answer the company may have the message, unless
 * not a byte of the request was written.
 */
async function request(path, { method, body } = {}) {
  const base = (get('base-url') ?? BASE_URL).replace(/\/+$/, '');
  try {
    return await fetch(base + path, {
      method,
      body,
      headers: { 'content-type': 'application/json' },
      authorization: { bearer: API_KEY },
    });
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    throw api.failure(error.maybeSent ? 'unknown-outcome' : 'retryable', error.message);
  }
}

/** The company signs `TIME.BODY` with HMAC-SHA256. The host compares, and remembers that it held. */
function isSigned({ headers, body }) {
  const header = (wanted) => headers.find(([name]) => name === wanted)?.[1] ?? '';
  const at = header('x-timestamp');
  const given = api.unhex(header('x-signature').replace(/^sha256=/, ''));
  if (!given || !api.isRecent(at, Date.now() / 1_000)) return false;
  const before = new TextEncoder().encode(`${at}.`);
  const signed = new Uint8Array(before.length + body.length);
  signed.set(before);
  signed.set(body, before.length);
  return verifyHmac('sha256', { credential: WEBHOOK_SECRET, encoding: 'text' }, signed, given);
}

export const sender = { describe, send, parseCallback, fetchStatus };

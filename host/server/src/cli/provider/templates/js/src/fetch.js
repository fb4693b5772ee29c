// `fetch` over countersign's `http` interface.
//
// As on the web, with what the host adds: it puts credentials in, follows no redirect, reaches
// granted hosts only, and hands over whole answers. At most 8 requests in one call.
import { send } from 'countersign:provider/http@0.1.0';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** There is no answer. */
export class NoAnswer extends Error {
  constructor({ text, maybeSent }) {
    super(text);
    this.name = 'NoAnswer';
    /** `false`: not a byte was written, it can be repeated. `true`: the other side may have it. */
    this.maybeSent = maybeSent;
  }
}

/** A whole answer, whatever its status. */
export class Response {
  #body;

  constructor({ status, headers, body }) {
    this.status = status;
    this.ok = status >= 200 && status < 300;
    // Names come in lower case.
    this.headers = new Map(headers);
    this.#body = body;
  }

  bytes() {
    return this.#body;
  }

  text() {
    return decoder.decode(this.#body);
  }

  /** Throws a `SyntaxError` where the body is no JSON. */
  json() {
    return JSON.parse(this.text());
  }
}

/**
 * Sends a request and waits for the whole answer. An HTTP error status is an answer.
 *
 * `headers`: an object, or pairs.
 * `body`: text, bytes, or `URLSearchParams`, which the host encodes.
 * `authorization`: a case of the variant in wit/http.wit, for example `{ bearer: 'api-key' }`, with
 * the names of credentials in the place of their values.
 * `timeout`: milliseconds; the operator's limit unless it is shorter.
 *
 * Throws `NoAnswer`.
 */
export async function fetch(url, { method = 'GET', headers = {}, body, authorization, timeout } = {}) {
  const pairs = Symbol.iterator in headers ? [...headers] : Object.entries(headers);
  try {
    return new Response(
      send({
        method: method.toLowerCase(),
        url: String(url),
        headers: pairs,
        body: bodyOf(body),
        authorization: authorizationOf(authorization),
        timeout: timeout === undefined ? undefined : BigInt(timeout),
        attributes: [],
      }),
    );
  } catch (error) {
    // What `send` returns as its error.
    throw error.payload ? new NoAnswer(error.payload) : error;
  }
}

function bodyOf(body) {
  if (body === undefined) return { tag: 'empty' };
  if (body instanceof URLSearchParams) return { tag: 'form', val: [...body] };
  return { tag: 'bytes', val: typeof body === 'string' ? encoder.encode(body) : body };
}

function authorizationOf(authorization) {
  if (authorization === undefined) return { tag: 'none' };
  const [[tag, val]] = Object.entries(authorization);
  return { tag, val };
}

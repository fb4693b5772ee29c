// What this application asks of countersign, and how it checks the answer that lets somebody in.

import { createPublicKey, randomUUID, verify } from 'node:crypto';

// RFC 8725, 3.1 and 3.11: what a proof is signed with and what it is called are ours to say, not the token's.
const ALGORITHM = 'EdDSA';
const TYPE = 'countersign-proof+jwt';
// How far the two machines' clocks may be apart, in seconds.
const LEEWAY = 60;

/** countersign has said no, in words for the user. */
export class Refused extends Error {}

/** countersign at one address, asked with the application's API key. */
export class Countersign {
  #keys = new Map();

  /**
   * `apiKey` may be missing in countersign's open mode. `issuer` and `audience` are what countersign's settings
   * `two-factor.issuer` and `two-factor.audience` say.
   */
  constructor({ url, apiKey, issuer, audience }) {
    Object.assign(this, { url, apiKey, issuer, audience });
  }

  /** What second factors the user has: `{enabled, methods, phoneNumber, backupCodesLeft, …}`. */
  state(user) {
    return this.#ask('GET', '/api/2fa', user);
  }

  /** Sends a code to a phone that is to become the user's second factor. */
  enable(user, address, phoneNumber) {
    return this.#ask('POST', '/api/2fa/enable', user, address, { phoneNumber });
  }

  /** Takes that code, and returns the ten backup codes. countersign itself can never show them again. */
  async verifyEnable(user, address, code) {
    const answer = await this.#ask('POST', '/api/2fa/verify-enable', user, address, { code });
    return answer.backupCodes;
  }

  /** Sends a code to the user's phone. */
  sendCode(user, address) {
    return this.#ask('POST', '/api/login/2fa/send', user, address, {});
  }

  /** Takes a code of any kind, and returns what the proof of it says once that is found to be genuine. */
  async login(user, address, code) {
    const { proof } = await this.#ask('POST', '/api/login/2fa', user, address, { code });
    return this.#check(proof, user);
  }

  // The key of the API and the name of the user are this back end's business: it knows who has typed the right
  // password, and the browser never speaks to countersign. For an app that does, countersign gives out tokens
  // (`POST /api/users/ID/tokens`), each good for one user's login or enrolment.
  async #ask(method, path, user, address, body) {
    const headers = { 'X-Countersign-User': user };
    if (this.apiKey) headers.Authorization = `Bearer ${this.apiKey}`;
    if (address) headers['X-Countersign-Client-Address'] = address;
    if (body) {
      headers['Content-Type'] = 'application/json';
      // With it, asking again does nothing twice and brings the first answer, backup codes included.
      headers['Idempotency-Key'] = randomUUID();
    }
    const ask = () =>
      fetch(this.url + path, {
        method,
        headers,
        body: body && JSON.stringify(body),
        redirect: 'error',
        signal: AbortSignal.timeout(15_000),
      });
    const response = await ask().catch(ask);
    const answer = await response.json();
    if (response.ok) return answer;
    if (response.status === 400 && (answer.reason || answer.error)) throw new Refused(answer.reason ?? answer.error);
    if (response.status === 403 && answer.type === 'urn:countersign:error:proof-required') {
      throw new Refused('Two-factor login is already on.');
    }
    throw new Error(`countersign answered ${path} with ${response.status}: ${answer.detail ?? answer.title}`);
  }

  // The answer's own `success` would do where nobody sits between the two. The signature makes it certain that it is
  // about this user, was made just now, and came from countersign.
  async #check(proof, user) {
    const [header, payload, signature, ...rest] = proof.split('.');
    const { alg, typ, kid } = decode(header);
    if (alg !== ALGORITHM || typ !== TYPE || rest.length > 0) throw new Error('this is no proof');
    const signed = Buffer.from(`${header}.${payload}`);
    if (!verify(null, signed, await this.#key(kid), Buffer.from(signature, 'base64url'))) {
      throw new Error('the signature of a proof is wrong');
    }
    const claims = decode(payload);
    const now = Date.now() / 1000;
    if (claims.iss !== this.issuer || claims.aud !== this.audience) {
      throw new Error(
        `the proof is from ${claims.iss} for ${claims.aud}, not from ${this.issuer} for ${this.audience}: ` +
          'set COUNTERSIGN_ISSUER and COUNTERSIGN_AUDIENCE',
      );
    }
    if (claims.sub !== user) throw new Error('the proof is about somebody else');
    if (!(claims.iat - LEEWAY <= now && now < claims.exp + LEEWAY)) throw new Error('the proof is not of now');
    return claims;
  }

  // countersign's public keys by their ids. An id that is not known yet is that of a new key.
  async #key(kid) {
    if (!this.#keys.has(kid)) {
      const response = await fetch(`${this.url}/.well-known/jwks.json`, {
        redirect: 'error',
        signal: AbortSignal.timeout(15_000),
      });
      const { keys } = await response.json();
      const usable = keys.filter((key) => key.kty === 'OKP' && key.crv === 'Ed25519' && key.use === 'sig');
      this.#keys = new Map(usable.map((key) => [key.kid, createPublicKey({ key, format: 'jwk' })]));
    }
    const key = this.#keys.get(kid);
    if (!key) throw new Error('the proof is signed with a key that countersign does not have');
    return key;
  }
}

function decode(part) {
  return JSON.parse(Buffer.from(part, 'base64url').toString());
}

// `node --test`: what the application does with countersign's answers. The stand-in here signs what countersign would
// never sign.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { Countersign, Refused } from './countersign.mjs';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const other = generateKeyPairSync('ed25519');
const KEY = { ...publicKey.export({ format: 'jwk' }), kid: 'k1', use: 'sig', alg: 'EdDSA' };
const HEADER = { alg: 'EdDSA', kid: 'k1', typ: 'countersign-proof+jwt' };

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function proof({ header = {}, claims = {}, key = privateKey } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const all = { iss: 'us', aud: 'shop', sub: 'u1', iat: now, exp: now + 300, jti: 'j', amr: ['sms'], ...claims };
  const signed = `${part({ ...HEADER, ...header })}.${part(all)}`;
  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`;
}

// What the stand-in answers next, and what it was asked last.
let next;
let asked;
let countersign;
const standIn = createServer(async (request, response) => {
  if (request.url === '/.well-known/jwks.json') return response.end(JSON.stringify({ keys: [KEY] }));
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  asked = { path: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() };
  if (next.cut-- > 0) return request.socket.destroy();
  response.writeHead(next.status, { 'Content-Type': 'application/json' }).end(JSON.stringify(next.body));
});

before(async () => {
  await new Promise((listening) => standIn.listen(0, '127.0.0.1', listening));
  const url = `http://127.0.0.1:${standIn.address().port}`;
  countersign = new Countersign({ url, apiKey: 'the-key', issuer: 'us', audience: 'shop' });
});
after(() => standIn.close());

function loginWith(text) {
  next = { status: 200, body: { success: true, method: 'otp', proof: text } };
  return countersign.login('u1', '192.0.2.7', '123456');
}

test('a genuine proof lets its user in', async () => {
  const claims = await loginWith(proof());
  assert.deepEqual(claims.amr, ['sms']);
  assert.equal(asked.path, '/api/login/2fa');
  assert.equal(asked.body, '{"code":"123456"}');
  assert.equal(asked.headers.authorization, 'Bearer the-key');
  assert.equal(asked.headers['x-countersign-user'], 'u1');
  assert.equal(asked.headers['x-countersign-client-address'], '192.0.2.7');
});

test('no other proof does', async () => {
  const now = Math.floor(Date.now() / 1000);
  const [header, payload, signature] = proof().split('.');
  const wrong = {
    'of somebody else': proof({ claims: { sub: 'u2' } }),
    'for another application': proof({ claims: { aud: 'bank' } }),
    'of another countersign': proof({ claims: { iss: 'them' } }),
    'that is over': proof({ claims: { iat: now - 1000, exp: now - 700 } }),
    'that is not yet': proof({ claims: { iat: now + 700, exp: now + 1000 } }),
    'without times': proof({ claims: { iat: undefined, exp: undefined } }),
    'by another key': proof({ key: other.privateKey }),
    'by a key that is not there': proof({ header: { kid: 'k2' }, key: other.privateKey }),
    'without a signature': `${header}.${payload}.`,
    'that is not signed': `${part({ ...HEADER, alg: 'none' })}.${payload}.`,
    'with another algorithm': proof({ header: { alg: 'HS256' } }),
    'of another type': proof({ header: { typ: 'JWT' } }),
    'whose claims were exchanged': `${header}.${part({ sub: 'u1' })}.${signature}`,
    'with something behind it': `${proof()}.x`,
    'that is none': 'x',
    'that is missing': undefined,
  };
  for (const [what, text] of Object.entries(wrong)) {
    await assert.rejects(loginWith(text), (error) => !(error instanceof Refused), `a proof ${what}`);
  }
  await loginWith(proof());
});

test('a refusal is told in its own words, and anything else is not one', async () => {
  next = { status: 400, body: { valid: false, reason: 'Invalid code' } };
  await assert.rejects(countersign.login('u1', undefined, '1'), new Refused('Invalid code'));
  next = { status: 400, body: { error: 'Invalid phone number' } };
  await assert.rejects(countersign.enable('u1', undefined, '1'), new Refused('Invalid phone number'));
  next = { status: 503, body: { title: 'Busy', type: 'urn:countersign:error:busy' } };
  await assert.rejects(countersign.sendCode('u1'), (error) => !(error instanceof Refused));
});

test('an answer that did not come is asked for again under the same key', async () => {
  next = { cut: 1, status: 200, body: { success: true, backupCodes: ['A'] } };
  const keys = new Set();
  const push = (request) => request.headers['idempotency-key'] && keys.add(request.headers['idempotency-key']);
  standIn.on('request', push);
  assert.deepEqual(await countersign.verifyEnable('u1', undefined, '123456'), ['A']);
  standIn.off('request', push);
  assert.equal(keys.size, 1);
  assert.equal(next.cut, -1, 'it was asked twice');
});

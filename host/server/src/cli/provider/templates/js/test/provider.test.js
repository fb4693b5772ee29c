import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { register } from 'node:module';
import { beforeEach, test } from 'node:test';
import { host } from './host.js';

register('./imports.js', import.meta.url);
const { sender } = await import('../src/provider.js');
const api = await import('../src/api.js');

beforeEach(() => {
  host.answers.length = 0;
  host.requests.length = 0;
});

const MESSAGE = {
  id: '0123456789abcdef0123456789abcdef',
  channel: 'sms',
  to: '+12025550123',
  country: 'US',
  text: 'Your code: 123456',
  template: 'verification',
  variables: [],
  code: '123456',
  locale: undefined,
  purpose: 'verification',
  sender: undefined,
  validity: 600_000n,
  statusCallback: undefined,
  attributes: [],
};

test('a message is posted as JSON, with a credential that is only named', async () => {
  host.answers.push([202, { id: 'm-1', parts: 2, price: { amount: '0.0079', currency: 'EUR' } }]);
  assert.deepEqual(await sender.send(MESSAGE), {
    ids: ['m-1'],
    segments: 2,
    price: { amount: '0.0079', currency: 'EUR' },
    attributes: [],
  });
  const [request] = host.requests;
  assert.equal(request.url, 'https://api.example.com/v1/messages');
  assert.deepEqual(request.authorization, { tag: 'bearer', val: 'api-key' });
  assert.deepEqual(JSON.parse(new TextDecoder().decode(request.body.val)), {
    to: '+12025550123',
    from: 'Example',
    text: 'Your code: 123456',
    reference: MESSAGE.id,
    validity_seconds: 600,
  });
});

test('every refusal has its class', async () => {
  for (const [status, code, wanted] of [
    [400, 'invalid-number', 'permanent'],
    [400, 'opted-out', 'blocked'],
    [400, 'unknown-sender', 'auth'],
    [401, undefined, 'auth'],
    [429, undefined, 'throttled'],
    [302, undefined, 'retryable'],
    [503, undefined, 'unknown-outcome'],
  ]) {
    host.answers.push([status, { error: { code, message: 'No' } }]);
    await assert.rejects(sender.send(MESSAGE), { class: wanted, text: `HTTP ${status}: No` });
  }
});

test('a throttled message waits as long as the company says', async () => {
  host.answers.push([429, '<html>', [['retry-after', '7']]]);
  await assert.rejects(sender.send(MESSAGE), { class: 'throttled', retryAfter: 7_000n });
});

test('without an answer the message may be on its way, unless nothing was written', async () => {
  host.answers.push({ text: 'refused', maybeSent: false }, { text: 'cut', maybeSent: true }, [200, '<html>']);
  await assert.rejects(sender.send(MESSAGE), { class: 'retryable', text: 'refused' });
  await assert.rejects(sender.send(MESSAGE), { class: 'unknown-outcome', text: 'cut' });
  await assert.rejects(sender.send(MESSAGE), { class: 'unknown-outcome' });
});

test('an answer without an id that the host takes is none', () => {
  for (const answer of [undefined, [], {}, { id: '' }, { id: 'a/b' }, { id: 'x'.repeat(129) }]) {
    assert.equal(api.accepted(answer), undefined);
  }
});

function signed(body, at = Math.floor(Date.now() / 1_000)) {
  const mac = createHmac('sha256', 'secret-1').update(`${at}.${body}`).digest('hex');
  const headers = [['x-timestamp', String(at)], ['x-signature', `sha256=${mac}`]];
  return { method: 'POST', url: 'https://sms.example.test/webhooks/x', headers, body: Buffer.from(body) };
}

test('a signed callback tells what became of a message', () => {
  const callback = signed('{"id":"m-1","status":"expired","error_code":"E7"}');
  const [update] = sender.parseCallback(callback).updates;
  assert.equal(update.status, 'undelivered');
  assert.equal(update.error.providerCode, 'E7');
});

test('a callback that is forged, changed, old or unsigned is not believed', () => {
  const right = signed('{"id":"m-1","status":"delivered"}');
  const changed = { ...right, body: Buffer.from('{"id":"m-2","status":"delivered"}') };
  const old = signed('{"id":"m-1","status":"delivered"}', Math.floor(Date.now() / 1_000) - 301);
  const short = { ...right, headers: [right.headers[0], ['x-signature', 'sha256=00']] };
  for (const callback of [changed, old, short, { ...right, headers: [] }]) {
    assert.throws(() => sender.parseCallback(callback), (error) => error === 'unsigned');
  }
  assert.throws(() => sender.parseCallback(signed('<html>')), (error) => error === 'malformed');
});

test('the company is asked what became of messages that it knows', async () => {
  host.answers.push([200, { id: 'm-1', status: 'delivered' }], [404, '']);
  const updates = await sender.fetchStatus(['m-1', 'm-2', 'a/b']);
  assert.deepEqual(updates.map(({ id, status }) => [id, status]), [['m-1', 'delivered']]);
  assert.equal(host.requests[0].url, 'https://api.example.com/v1/messages/m-1');
  host.answers.push([500, '']);
  await assert.rejects(sender.fetchStatus(['m-1']), { class: 'retryable' });
});

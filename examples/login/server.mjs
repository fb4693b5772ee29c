// A web application that logs in with a password and, for who has turned it on, a second factor that countersign checks.
// How to run it stands in README.md.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

import { Accounts, Sessions } from './accounts.mjs';
import { Countersign, Refused } from './countersign.mjs';
import * as pages from './pages.mjs';

const { env } = process;
const countersign = new Countersign({
  url: (env.COUNTERSIGN_URL ?? 'http://127.0.0.1:8080').replace(/\/+$/, ''),
  apiKey: env.COUNTERSIGN_API_KEY,
  issuer: env.COUNTERSIGN_ISSUER ?? 'countersign',
  audience: env.COUNTERSIGN_AUDIENCE ?? env.COUNTERSIGN_ISSUER ?? 'countersign',
});
// This server speaks no TLS, so with https a reverse proxy is in front.
const secure = (env.APP_URL ?? '').startsWith('https://');

const FORM_BYTES_MAX = 8 * 1024;
const accounts = new Accounts();
// Who is logged in; and who has typed the right password and not yet shown the second factor. Two cookies, so that
// nothing can take the one for the other.
const sessions = new Sessions(12 * 60 * 60);
const logins = new Sessions(10 * 60);
const SESSION = secure ? '__Host-session' : 'session';
const LOGIN = secure ? '__Host-login' : 'login';

const routes = {
  'GET /': async ({ account }) => {
    if (!account) return show(pages.welcome());
    return show(pages.home(account, await countersign.state(account.id)));
  },

  'GET /register': () => show(pages.register()),
  'POST /register': async (visit) => {
    const { name, password } = visit.form;
    if (!name?.trim() || name.length > 64) return show(pages.register('A name has 1 to 64 letters.'), 400);
    if (!(password?.length >= 8 && password.length <= 128)) {
      return show(pages.register('A password has 8 to 128 letters.'), 400);
    }
    const account = await accounts.register(name, password);
    return account ? signIn(visit, account) : show(pages.register('This name is taken.'), 400);
  },

  'GET /login': () => show(pages.login()),
  'POST /login': async (visit) => {
    const account = await accounts.find(visit.form.name ?? '', visit.form.password ?? '');
    if (!account) return show(pages.login('Wrong name or password.'), 400);
    const { enabled } = await countersign.state(account.id);
    if (!enabled) return signIn(visit, account);
    const login = { account };
    await send(visit, login);
    return go('/login/code', cookie(LOGIN, logins.begin(login), logins.seconds));
  },

  'GET /login/code': ({ login }) => (login ? show(pages.secondFactor(login.problem)) : go('/login')),
  'POST /login/code': async (visit) => {
    const { login, form, address } = visit;
    if (!login) return go('/login');
    const { account } = login;
    return unlessRefused(pages.secondFactor, async () => {
      await countersign.login(account.id, address, form.code ?? '');
      return signIn(visit, account);
    });
  },
  'POST /login/resend': async (visit) => {
    if (!visit.login) return go('/login');
    await send(visit, visit.login);
    return go('/login/code');
  },

  'GET /two-factor': ({ account }) => (account ? show(pages.phone()) : go('/login')),
  'POST /two-factor': async ({ account, form, address }) => {
    if (!account) return go('/login');
    return unlessRefused(pages.phone, async () => {
      await countersign.enable(account.id, address, form.phoneNumber ?? '');
      return go('/two-factor/code');
    });
  },
  'GET /two-factor/code': ({ account }) => (account ? show(pages.phoneCode()) : go('/login')),
  'POST /two-factor/code': async ({ account, session, form, address }) => {
    if (!account) return go('/login');
    return unlessRefused(pages.phoneCode, async () => {
      const codes = await countersign.verifyEnable(account.id, address, form.code ?? '');
      // What was let in by the password alone has to come again.
      sessions.endOthers(session);
      return show(pages.backupCodes(codes));
    });
  },

  'POST /logout': ({ session }) => {
    sessions.end(session);
    return go('/', cookie(SESSION, '', 0));
  },
};

/** Sends a code to the phone of who is logging in. A refusal is shown beside the field for the code. */
async function send({ address }, login) {
  login.problem = undefined;
  try {
    await countersign.sendCode(login.account.id, address);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    login.problem = error.message;
  }
}

/** Begins a session, under an id that nobody had before. */
function signIn(visit, account) {
  sessions.end(visit.session);
  logins.end(visit.pending);
  return go('/', cookie(SESSION, sessions.begin(account), sessions.seconds), cookie(LOGIN, '', 0));
}

async function unlessRefused(page, act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Refused) return show(page(error.message), 400);
    throw error;
  }
}

function show(html, status = 200) {
  return { status, html };
}

function go(location, ...cookies) {
  return { status: 303, location, cookies };
}

function cookie(name, value, seconds) {
  const attributes = `Path=/; HttpOnly; SameSite=Strict; Max-Age=${seconds}`;
  return `${name}=${value}; ${attributes}${secure ? '; Secure' : ''}`;
}

/** What a request is and who sends it. */
async function understand(request) {
  const cookies = new Map((request.headers.cookie ?? '').split('; ').map((pair) => pair.split('=', 2)));
  const session = cookies.get(SESSION);
  const pending = cookies.get(LOGIN);
  const forwarded = request.headers['x-forwarded-for']?.split(',').at(-1).trim();
  return {
    session,
    pending,
    account: sessions.find(session),
    login: logins.find(pending),
    // With it countersign limits what one client can have sent.
    address: secure ? forwarded : request.socket.remoteAddress,
    form: request.method === 'POST' ? Object.fromEntries(new URLSearchParams(await body(request))) : {},
  };
}

async function body(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > FORM_BYTES_MAX) throw new Error('a form is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

async function answer(request) {
  const handler = routes[`${request.method} ${request.url.split('?')[0]}`];
  if (!handler) return show(pages.failed('There is no such page.'), 404);
  // The cookies do not come from other sites' pages, being SameSite; nor is anybody logged in by them.
  const from = request.headers['sec-fetch-site'] ?? 'none';
  if (request.method === 'POST' && !['same-origin', 'none'].includes(from)) {
    return show(pages.failed('This form is not from here.'), 403);
  }
  try {
    return await handler(await understand(request));
  } catch (error) {
    // Without an answer nobody is let in.
    console.error(error.message, error.cause?.message ?? '');
    return show(pages.failed('This cannot be done just now. Please try again in a moment.'), 503);
  }
}

const files = new Map();
for (const [name, type] of [['webotp.js', 'text/javascript'], ['style.css', 'text/css']]) {
  files.set(`/${name}`, { type, bytes: await readFile(new URL(name, import.meta.url)) });
}

const server = createServer(async (request, response) => {
  response.setHeader('Content-Security-Policy', "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'no-referrer');
  const file = request.method === 'GET' && files.get(request.url);
  if (file) {
    response.writeHead(200, { 'Content-Type': `${file.type}; charset=utf-8` }).end(file.bytes);
    return;
  }
  const { status, html, location, cookies = [] } = await answer(request);
  response.setHeader('Cache-Control', 'no-store');
  if (cookies.length > 0) response.setHeader('Set-Cookie', cookies);
  if (location) response.writeHead(status, { Location: location }).end();
  else response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8' }).end(html);
});

try {
  await countersign.state('nobody');
} catch (error) {
  console.error(`${error.message} ${error.cause?.message ?? ''}`);
  console.error(`Is countersign running at ${countersign.url} (COUNTERSIGN_URL), and is COUNTERSIGN_API_KEY a key of it?`);
  process.exit(1);
}
server.listen(Number(env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

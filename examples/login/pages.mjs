// The pages: HTML without a framework.

/** Text that stands in HTML. */
export function escape(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return String(text).replace(/[&<>"']/g, (letter) => entities[letter]);
}

function page(title, body, problem) {
  const notice = problem ? `<p role="alert">${escape(problem)}</p>` : '';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<link rel="stylesheet" href="/style.css">
<script src="/webotp.js" defer></script>
<main>
<h1>${title}</h1>
${notice}
${body}
</main>
</html>
`;
}

// The field for a code from a message. `autocomplete` makes Safari and Android offer the code above the keyboard,
// `inputmode` brings the keyboard with digits; webotp.js does the rest where the browser can do more. It is a text field:
// a number would lose its leading zeros.
const CODE_FIELD = `<label>Code from the message
<input name="code" autocomplete="one-time-code" inputmode="numeric" pattern="[0-9]{6,10}" maxlength="10" required autofocus>
</label>`;

export function welcome() {
  return page('Welcome', '<p><a href="/login">Log in</a> or <a href="/register">make an account</a>.</p>');
}

export function home(account, state, notice) {
  const factor = state.enabled
    ? `<p id="factor">Two-factor login is on: messages go to ${escape(state.phoneNumber)}, and
${escape(state.backupCodesLeft)} backup codes are left.</p>`
    : '<p id="factor">Two-factor login is off. <a href="/two-factor">Turn it on</a></p>';
  const logout = '<form method="post" action="/logout"><button>Log out</button></form>';
  return page(`Hello, ${escape(account.name)}`, factor + logout, notice);
}

export function register(problem) {
  const form = `<form method="post">
<label>Name <input name="name" autocomplete="username" maxlength="64" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="new-password" minlength="8" maxlength="128" required></label>
<button>Make the account</button>
</form>`;
  return page('Make an account', form, problem);
}

export function login(problem) {
  const form = `<form method="post">
<label>Name <input name="name" autocomplete="username" maxlength="64" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" maxlength="128" required></label>
<button>Log in</button>
</form>`;
  return page('Log in', form, problem);
}

export function secondFactor(problem) {
  const forms = `<form method="post" action="/login/code">
${CODE_FIELD}
<button>Log in</button>
</form>
<form method="post" action="/login/resend"><button>Send another message</button></form>
<details>
<summary>I have no phone at hand</summary>
<form method="post" action="/login/code">
<label>Backup code <input name="code" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="64" required></label>
<button>Log in with a backup code</button>
</form>
</details>`;
  return page('One more step', forms, problem);
}

export function phone(problem) {
  const form = `<p>You will log in with your password and a code that comes as a message. Messages can be read or redirected
by others; they are better than a password alone.</p>
<form method="post">
<label>Phone number <input name="phoneNumber" type="tel" autocomplete="tel" placeholder="+1 202 555 0123" maxlength="64" required autofocus></label>
<button>Send a code</button>
</form>`;
  return page('Two-factor login', form, problem);
}

export function phoneCode(problem) {
  const form = `<form method="post">
${CODE_FIELD}
<button>Turn it on</button>
</form>`;
  return page('Two-factor login', form, problem);
}

export function backupCodes(codes) {
  const list = codes.map((code) => `<li><code>${escape(code)}</code></li>`).join('\n');
  const body = `<p>Two-factor login is on. Without your phone, each of these codes lets you in once. Print them, or put them
into your password manager: <strong>they are shown this once</strong>.</p>
<ol id="backup-codes">
${list}
</ol>
<p><a href="/">I have kept them</a></p>`;
  return page('Your backup codes', body);
}

export function failed(text) {
  return page('That did not work', `<p>${escape(text)}</p><p><a href="/">Go on</a></p>`);
}

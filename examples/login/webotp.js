// Fills in the code that the browser has read from a message, after the user has allowed it, and sends the form:
// https://developer.mozilla.org/en-US/docs/Web/API/WebOTP_API. Browsers do that for messages whose last line is
// `@domain #code` with the domain of this page, which countersign's setting `otp.domain` adds.

const field = document.querySelector('input[autocomplete="one-time-code"]');
if (field && 'OTPCredential' in window) {
  const waiting = new AbortController();
  field.form.addEventListener('submit', () => waiting.abort());
  navigator.credentials
    .get({ otp: { transport: ['sms'] }, signal: waiting.signal })
    .then((otp) => {
      field.value = otp.code;
      field.form.requestSubmit();
    })
    .catch(() => {
      // Not allowed, not possible here, or typed in the meantime.
    });
}

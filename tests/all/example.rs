//! `examples/login`: the application with a password and a second factor, in a real browser.

use std::collections::BTreeSet;

use countersign_tests::{
    Answer, Browser, FakeTwilio, LoginApp, Server, TEST_KEY, TOO_MANY_SENDS, WRONG_CODE, phone,
    wrong,
};
use hyper::Method;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// The application in front of a real server, and a browser in which nobody has been anywhere.
struct Visit {
    twilio: FakeTwilio,
    _server: Server,
    app: LoginApp,
    browser: Browser,
}

impl Visit {
    async fn start() -> Self {
        let twilio = FakeTwilio::start().await;
        let server = Server::builder().twilio(&twilio);
        let server = server.env("COUNTERSIGN_OTP_DOMAIN", "localhost");
        let server = server.start().await;
        Self {
            app: LoginApp::start(&server).await,
            browser: Browser::start().await,
            _server: server,
            twilio,
        }
    }

    async fn open(&self, path: &str) {
        let url = format!("{}{path}", self.app.url());
        self.browser.open(&url).await;
    }

    /// Fills fields in, presses a button, and waits for the page that comes.
    async fn submit(&self, fields: &[(&str, &str)], button: &str, title: &str) {
        for (name, value) in fields {
            let field = self.browser.element(&format!("input[name={name}]")).await;
            field.type_in(value).await;
        }
        self.press(button, title).await;
    }

    async fn press(&self, button: &str, title: &str) {
        let button = self.browser.element_saying("button", button).await;
        button.click().await;
        self.arrive(title).await;
    }

    async fn arrive(&self, title: &str) {
        self.browser.element_saying("h1", title).await;
    }

    /// Requires that the page says so of what was tried.
    async fn told(&self, words: &str) {
        self.browser.element_saying("p", words).await;
    }

    async fn register(&self) {
        self.open("/register").await;
        let fields = [("name", "Ada"), ("password", PASSWORD)];
        self.submit(&fields, "Make the account", "Hello, Ada").await;
    }

    async fn give_phone(&self, phone: &str) {
        self.open("/two-factor").await;
        let fields = [("phoneNumber", phone)];
        self.submit(&fields, "Send a code", "Two-factor login")
            .await;
        self.browser.element("input[name=code]").await;
    }

    /// Logs out, and in again as far as the password reaches.
    async fn show_password_again(&self) {
        self.open("/").await;
        self.press("Log out", "Welcome").await;
        self.open("/login").await;
        let fields = [("name", "Ada"), ("password", PASSWORD)];
        self.submit(&fields, "Log in", "One more step").await;
    }

    async fn show_backup_code(&self, code: &str, title: &str) {
        self.browser.element("summary").await.click().await;
        let field = self.browser.element("details input[name=code]").await;
        field.type_in(code).await;
        self.press("Log in with a backup code", title).await;
    }

    async fn backup_codes(&self) -> Vec<String> {
        let script = "return [...document.querySelectorAll('#backup-codes code')].map((code) => code.textContent)";
        let codes = self.browser.run(script).await;
        serde_json::from_value(codes).unwrap()
    }

    async fn cookie(&self, name: &str) -> Option<Value> {
        let cookies = self.browser.cookies().await;
        cookies.into_iter().find(|cookie| cookie["name"] == name)
    }
}

#[tokio::test]
async fn a_user_logs_in_with_a_password_and_a_code_from_a_message_or_from_paper() {
    let visit = Visit::start().await;
    let number = phone(1);
    visit.register().await;
    visit.give_phone("+1 (202) 456-0001").await;
    let code = visit.twilio.nth_code(&number, 1).await;
    let title = "Two-factor login";
    visit
        .submit(&[("code", &wrong(&code))], "Turn it on", title)
        .await;
    visit.told(WRONG_CODE).await;
    let title = "Your backup codes";
    visit.submit(&[("code", &code)], "Turn it on", title).await;
    let codes = visit.backup_codes().await;
    let different: BTreeSet<_> = codes.iter().collect();
    assert_eq!((codes.len(), different.len()), (10, 10), "{codes:?}");

    visit.show_password_again().await;
    let code = visit.twilio.nth_code(&number, 2).await;
    visit
        .submit(&[("code", &wrong(&code))], "Log in", "One more step")
        .await;
    visit.told("Invalid code").await;
    visit
        .submit(&[("code", &code)], "Log in", "Hello, Ada")
        .await;
    let factor = visit.browser.element("#factor").await.text().await;
    assert!(factor.contains("+1202•••••01"), "{factor}");
    assert!(factor.contains("10 backup codes"), "{factor}");

    visit.show_password_again().await;
    visit.show_backup_code(&codes[4], "Hello, Ada").await;
    let factor = visit.browser.element("#factor").await.text().await;
    assert!(factor.contains("9 backup codes"), "{factor}");
    // What is no code is not bound to a page.
    let notice = visit.twilio.notice_to(&number).await;
    assert!(notice.contains('9') && !notice.contains('@'), "{notice}");

    visit.show_password_again().await;
    visit.show_backup_code(&codes[4], "One more step").await;
    visit.told("Invalid code").await;
    assert_eq!(visit.cookie("session").await, None);
    visit.show_backup_code(&codes[5], "Hello, Ada").await;
}

#[tokio::test]
async fn r21_a_password_alone_is_no_session() {
    let visit = Visit::start().await;
    visit.register().await;
    let form = format!("name=Ada&password={}", PASSWORD.replace(' ', "+"));
    let elsewhere = post(&visit.app, "/login", &form, &[]).await;
    let elsewhere = first_cookie(&elsewhere.expect_status(303));
    assert!(home(&visit.app, &elsewhere).await.contains("Hello, Ada"));
    visit.give_phone(&phone(1)).await;
    let code = visit.twilio.nth_code(&phone(1), 1).await;
    let title = "Your backup codes";
    visit.submit(&[("code", &code)], "Turn it on", title).await;
    let first = visit.cookie("session").await.expect("a session");
    // What the password alone has let in before ends too.
    assert!(home(&visit.app, &elsewhere).await.contains("Welcome"));

    visit.show_password_again().await;
    assert_eq!(visit.cookie("session").await, None);
    visit.open("/").await;
    visit.arrive("Welcome").await;
    visit.open("/two-factor").await;
    visit.arrive("Log in").await;

    visit.open("/login/code").await;
    let code = visit.twilio.nth_code(&phone(1), 2).await;
    visit
        .submit(&[("code", &code)], "Log in", "Hello, Ada")
        .await;
    let second = visit.cookie("session").await.expect("a session");
    assert_ne!(first["value"], second["value"]);
    assert_eq!(second["httpOnly"], true);
    assert_eq!(second["sameSite"], "Strict");
    assert_eq!(visit.cookie("login").await, None, "it is used up");
}

#[tokio::test]
async fn what_countersign_refuses_is_told_in_its_words() {
    let visit = Visit::start().await;
    visit.register().await;
    visit.open("/two-factor").await;
    let fields = [("phoneNumber", "12")];
    visit
        .submit(&fields, "Send a code", "Two-factor login")
        .await;
    visit.told("Invalid phone number").await;
    for _ in 0..3 {
        visit.give_phone(&phone(1)).await;
    }
    visit.open("/two-factor").await;
    let fields = [("phoneNumber", phone(1))];
    let fields = fields
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    visit
        .submit(&fields, "Send a code", "Two-factor login")
        .await;
    visit.told(TOO_MANY_SENDS).await;
}

/// A browser that reads messages, which none without a telephone does: everything else in the page is real.
const READS_MESSAGES: &str = "
    window.OTPCredential ??= class OTPCredential {};
    navigator.credentials.get = (options) => {
        window.asked = { otp: options.otp, canEnd: options.signal instanceof AbortSignal };
        return new Promise((resolve) => { window.handOver = (code) => resolve({ code }); });
    };
";

#[tokio::test]
async fn the_code_of_a_message_is_filled_in_on_the_page_that_it_is_bound_to() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    browser.run_first(READS_MESSAGES).await;
    visit.register().await;
    visit.give_phone(&phone(1)).await;

    // What Safari and the keyboards of phones go by.
    let field = browser.element("input[name=code]").await;
    for (name, value) in [
        ("autocomplete", "one-time-code"),
        ("inputmode", "numeric"),
        ("pattern", "[0-9]{6,10}"),
    ] {
        assert_eq!(field.attribute(name).await.as_deref(), Some(value));
    }
    assert_eq!(field.attribute("type").await, None, "a text");

    // What Chrome goes by: the script's question, and the domain in the message.
    let asked = browser.run("return window.asked").await;
    let want = json!({ "otp": { "transport": ["sms"] }, "canEnd": true });
    assert_eq!(asked, want);
    let code = visit.twilio.nth_code(&phone(1), 1).await;
    let message = &visit.twilio.messages()[0].body;
    let last = message.lines().next_back().unwrap();
    assert_eq!(last, format!("@localhost #{code}"));
    assert!(browser.url().await.starts_with("http://localhost:"));
    browser.run(&format!("window.handOver('{code}')")).await;
    visit.arrive("Your backup codes").await;
}

async fn post(app: &LoginApp, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
    all.extend(headers);
    let client = app.client();
    let answer = client.request(Method::POST, path, &all, form.to_owned());
    answer.await.unwrap()
}

/// The first cookie of an answer, as a browser sends it back.
#[track_caller]
fn first_cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// The page at `/`, with a cookie.
async fn home(app: &LoginApp, cookie: &str) -> String {
    let headers = [("cookie", cookie)];
    let client = app.client();
    let page = client.request(Method::GET, "/", &headers, "").await;
    page.unwrap().expect_status(200).text()
}

#[tokio::test]
async fn a_name_is_text_in_the_page_whatever_it_looks_like() {
    let server = Server::builder().console().start().await;
    let app = LoginApp::start(&server).await;
    let form = "name=%3Cscript%3E%26%22&password=12345678";
    let made = post(&app, "/register", form, &[]).await.expect_status(303);
    let page = home(&app, &first_cookie(&made)).await;
    assert!(page.contains("Hello, &lt;script&gt;&amp;&quot;"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_https_and_this_host_alone() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let variables = [("APP_URL", "https://shop.example")];
    let app = LoginApp::start_with(&server, &variables).await;
    let form = format!("name=Ada&password={}", PASSWORD.replace(' ', "+"));
    let made = post(&app, "/register", &form, &[]).await.expect_status(303);
    let cookie = made.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-session="), "{cookie}");
    for attribute in ["; Path=/;", "; HttpOnly;", "; SameSite=Strict;", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_does_nothing() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let app = LoginApp::start(&server).await;
    let form = "name=Ada&password=12345678";
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site)];
        let refused = post(&app, "/register", form, &headers).await;
        let refused = refused.expect_status(403);
        assert_eq!(refused.header("set-cookie"), None);
    }
    let headers = [("sec-fetch-site", "same-origin")];
    post(&app, "/register", form, &headers)
        .await
        .expect_status(303);
}

#[tokio::test]
async fn it_runs_in_front_of_a_server_without_a_key() {
    let server = Server::builder().console().no_key().start().await;
    let app = LoginApp::start_with(&server, &[("COUNTERSIGN_API_KEY", "")]).await;
    let form = "name=Ada&password=12345678";
    post(&app, "/register", form, &[]).await.expect_status(303);
    // An account of that name is there now, and its password is not just any.
    post(&app, "/register", form, &[]).await.expect_status(400);
    let wrong = "name=Ada&password=12345679";
    post(&app, "/login", wrong, &[]).await.expect_status(400);
    post(&app, "/login", form, &[]).await.expect_status(303);
}

#[tokio::test]
async fn without_countersign_it_does_not_start_and_says_what_to_look_at() {
    let nowhere = LoginApp::finish("http://127.0.0.1:1", TEST_KEY).await;
    nowhere.expect_refusal(&["127.0.0.1:1", "COUNTERSIGN_URL"]);
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let url = format!("http://{}", server.address());
    let refused = LoginApp::finish(&url, "not-the-key-of-this-server-000000").await;
    refused.expect_refusal(&["401", "COUNTERSIGN_API_KEY"]);
}

#[tokio::test]
async fn its_own_tests_pass() {
    let finished = LoginApp::own_tests().await.expect_success();
    assert!(finished.stdout.contains(" pass 4\n"), "{}", finished.stdout);
}

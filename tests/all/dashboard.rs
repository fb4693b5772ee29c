//! The dashboard: its login as a browser and as a stranger meets it, and what it shows of real messages,
//! in headless Chromium.

use std::path::Path;

use countersign_tests::{
    ADMIN_TOKEN, Answer, Browser, Server, TEST_KEY, Traffic, eventually, phone,
};
use hyper::Method;
use serde_json::{Value, json};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const LOGIN: &str = "/dashboard/login";
/// All of the traffic.
const RANGE: &str = "/dashboard?start=2026-03-01&end=2026-03-03";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// A server that has sent nothing yet.
async fn quiet() -> Server {
    let server = Server::builder().console();
    server
        .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN_TOKEN)
        .start()
        .await
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    let client = server.client().without_key();
    client
        .request(Method::GET, path, headers, "")
        .await
        .unwrap()
}

async fn post(server: &Server, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[FORM], headers].concat();
    let client = server.client().without_key();
    let answer = client.request(Method::POST, path, &headers, form.to_owned());
    answer.await.unwrap()
}

/// Logs in, and returns the cookie as a browser sends it back.
async fn log_in(server: &Server) -> String {
    let form = format!("token={ADMIN_TOKEN}");
    let answer = post(server, LOGIN, &form, &[]).await.expect_status(303);
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_token_the_page_says_what_to_set() {
    let server = Server::builder().console().start().await;
    for path in ["/dashboard", "/dashboard?last=7", LOGIN] {
        let page = get(&server, path, &[]).await.expect_status(403);
        assert!(
            page.text().contains("COUNTERSIGN_ADMIN_TOKEN"),
            "{}",
            page.text()
        );
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
    }
    post(&server, LOGIN, "token=", &[]).await.expect_status(403);
    let program = get(&server, "/dashboard/figures.json", &[]).await;
    program.expect_problem(403);
}

#[tokio::test]
async fn who_has_not_logged_in_gets_the_form_and_no_figures() {
    let server = quiet().await;
    let answer = get(&server, RANGE, &[]).await.expect_status(303);
    let next = "/dashboard/login?next=%2Fdashboard%3Fstart%3D2026-03-01%26end%3D2026-03-03";
    assert_eq!(answer.header("location"), Some(next));
    let form = get(&server, next, &[]).await.expect_status(200).text();
    assert!(
        form.contains("value=\"/dashboard?start=2026-03-01&amp;end=2026-03-03\""),
        "{form}"
    );
    for path in ["/dashboard/figures.json", "/dashboard/timeline.csv"] {
        get(&server, path, &[]).await.expect_problem(401);
    }
    let wrong = ("cookie", "countersign=AAAA");
    get(&server, "/dashboard", &[wrong])
        .await
        .expect_status(303);
    get(&server, "/dashboard/nothing", &[])
        .await
        .expect_status(404);
}

#[tokio::test]
async fn a_program_sends_the_token_itself() {
    let server = quiet().await;
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str())];
    for path in [
        "/dashboard",
        "/dashboard/figures.json",
        "/dashboard/timeline.csv",
    ] {
        get(&server, path, &headers).await.expect_status(200);
    }
    let key = format!("Bearer {TEST_KEY}");
    let answer = get(&server, "/dashboard", &[("authorization", &key)]).await;
    answer.expect_problem(401);
}

#[tokio::test]
async fn a_logout_ends_the_session_for_who_has_copied_its_cookie_too() {
    let server = quiet().await;
    let (one, other) = (log_in(&server).await, log_in(&server).await);
    assert!(!one.contains(ADMIN_TOKEN) && one != other);
    let [one, other] = [&one, &other].map(|cookie| [("cookie", cookie.as_str())]);
    get(&server, "/dashboard", &one).await.expect_status(200);
    let out = post(&server, "/dashboard/logout", "", &one)
        .await
        .expect_status(303);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    get(&server, "/dashboard", &one).await.expect_status(303);
    get(&server, "/dashboard", &other).await.expect_status(200);
}

#[tokio::test]
async fn a_session_outlives_a_restart_and_ends_with_another_token() {
    let mut server = quiet().await;
    let cookie = log_in(&server).await;
    let headers = [("cookie", cookie.as_str())];
    server.restart().await;
    get(&server, "/dashboard", &headers)
        .await
        .expect_status(200);
    server.kill().await;
    let setup = server.setup().clone();
    let server = setup
        .env("COUNTERSIGN_ADMIN_TOKEN", "another")
        .start()
        .await;
    get(&server, "/dashboard", &headers)
        .await
        .expect_status(303);
}

#[tokio::test]
async fn ten_wrong_tokens_a_minute_are_looked_at() {
    let server = quiet().await;
    // Nor does an API key open it.
    let key = post(&server, LOGIN, &format!("token={TEST_KEY}"), &[]).await;
    key.expect_status(401);
    for _ in 0..9 {
        let wrong = post(&server, LOGIN, "token=wrong", &[])
            .await
            .expect_status(401);
        assert!(wrong.text().contains("role=\"alert\""), "{}", wrong.text());
    }
    let form = format!("token={ADMIN_TOKEN}");
    let right = post(&server, LOGIN, &form, &[]).await.expect_status(429);
    assert!((1..=60).contains(&right.retry_after().as_secs()));
    assert_eq!(right.header("set-cookie"), None);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    get(&server, "/dashboard", &[("authorization", &bearer)])
        .await
        .expect_status(200);
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let server = quiet().await;
    let cookie = log_in(&server).await;
    let form = format!("token={ADMIN_TOKEN}");
    for site in ["cross-site", "same-site"] {
        let foreign = [("sec-fetch-site", site), ("cookie", cookie.as_str())];
        let answer = post(&server, LOGIN, &form, &foreign)
            .await
            .expect_status(403);
        assert_eq!(answer.header("set-cookie"), None);
        post(&server, "/dashboard/logout", "", &foreign)
            .await
            .expect_status(403);
    }
    let foreign = [
        ("origin", "https://evil.example"),
        ("cookie", cookie.as_str()),
    ];
    post(&server, "/dashboard/logout", "", &foreign)
        .await
        .expect_status(403);
    let headers = [("cookie", cookie.as_str())];
    get(&server, "/dashboard", &headers)
        .await
        .expect_status(200);
}

#[tokio::test]
async fn behind_https_the_cookie_is_for_https_and_this_host_alone() {
    let server = Server::builder().console().callbacks();
    let server = server
        .env("COUNTERSIGN_ADMIN_TOKEN", ADMIN_TOKEN)
        .start()
        .await;
    let form = format!("token={ADMIN_TOKEN}");
    let answer = post(&server, LOGIN, &form, &[]).await.expect_status(303);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-countersign="), "{cookie}");
    for attribute in ["; Path=/;", "; HttpOnly;", "; SameSite=Strict;", "; Secure"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_policy_and_only_assets_may_be_kept() {
    let server = quiet().await;
    let form = get(&server, LOGIN, &[]).await.expect_status(200);
    let page = form.text();
    let style = page.split('"').find(|part| part.ends_with(".css")).unwrap();
    for (path, kept) in [
        ("/dashboard", "no-store"),
        (LOGIN, "no-store"),
        ("/dashboard/figures.json", "no-store"),
        ("/dashboard/nothing", "no-store"),
        ("/dashboard/assets/style.css", "no-store"),
        (style, "public, max-age=31536000, immutable"),
    ] {
        let answer = get(&server, path, &[]).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; "),
            "{path}: {policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
        for (name, value) in [
            ("cache-control", kept),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path} {name}");
        }
    }
}

/// Somebody in front of a browser, and three days of messages.
struct Desk {
    traffic: Traffic,
    browser: Browser,
}

impl Desk {
    async fn open() -> Self {
        let (traffic, browser) = tokio::join!(Traffic::of(3, 50), Browser::start());
        browser.resize(1280, 900).await;
        let desk = Self { traffic, browser };
        desk.go(RANGE).await;
        desk
    }

    fn server(&self) -> &Server {
        &self.traffic.server
    }

    async fn go(&self, path: &str) {
        let port = self.server().address().port();
        self.browser
            .open(&format!("http://localhost:{port}{path}"))
            .await;
    }

    /// The path and the query of the page.
    async fn place(&self) -> String {
        let url = self.browser.url().await;
        let (_, path) = url.split_once("/dashboard").unwrap();
        format!("/dashboard{path}")
    }

    async fn type_token(&self, token: &str) {
        self.browser.element("#token").await.type_in(token).await;
        self.browser.element("button.main").await.click().await;
    }

    async fn log_in(&self) {
        self.type_token(ADMIN_TOKEN).await;
        self.browser.element("#figures").await;
    }

    /// The figure that is called so.
    async fn tile(&self, name: &str) -> String {
        let script = format!(
            "return [...document.querySelectorAll('.tile')].find((tile) => tile.querySelector('dt').textContent === '{name}').querySelector('b').textContent"
        );
        self.browser.run(&script).await.as_str().unwrap().to_owned()
    }

    /// Requires that the console has nothing to complain about, CSP included.
    #[track_caller]
    fn expect_quiet(&self, console: &[Value]) {
        assert!(console.is_empty(), "{console:#?}");
    }
}

#[tokio::test]
async fn an_operator_logs_in_looks_around_and_logs_out() {
    let desk = Desk::open().await;
    let browser = &desk.browser;
    let total = desk.traffic.messages;

    desk.type_token("wrong").await;
    let told = browser.element("p[role=alert]").await.text().await;
    assert!(told.contains("not the administrator"), "{told}");
    // The browser tells of every 401; that is the only thing to tell.
    let console = browser.console().await;
    assert!(
        console.len() == 1 && console[0]["message"].to_string().contains("401"),
        "{console:?}"
    );

    desk.log_in().await;
    assert_eq!(desk.place().await, RANGE, "where they wanted to go");
    let cookie = browser.cookies().await.remove(0);
    let of = ["httpOnly", "secure", "sameSite"].map(|name| cookie[name].clone());
    assert_eq!(of, [json!(true), json!(true), json!("Strict")]);
    assert_eq!(desk.tile("Messages").await, total.to_string());

    // The form's filters are in the address.
    let script = "document.getElementById('country').value = 'IN'; document.getElementById('interval').value = 'hour'";
    browser.run(script).await;
    browser.element("button.main").await.click().await;
    browser.element(".chosen").await;
    let place = desk.place().await;
    assert!(
        place.contains("country=IN") && place.contains("interval=hour"),
        "{place}"
    );
    let of_india: usize = desk.tile("Messages").await.parse().unwrap();
    assert!((1..total).contains(&of_india), "{of_india}");
    browser.element(".chosen a").await.click().await;
    browser.element_saying("b", &total.to_string()).await;
    browser
        .element_saying("a", "asia-direct")
        .await
        .click()
        .await;
    browser.element(".chosen").await;
    assert!(desk.place().await.contains("provider=asia-direct"));

    // A wrong range is told where it was typed, an empty one is a friendly page.
    desk.expect_quiet(&browser.console().await);
    desk.go("/dashboard?start=2026-03-05&end=2026-03-01").await;
    let told = browser.element("p[role=alert]").await.text().await;
    assert_eq!(told, "“To” must not be before “From”");
    let invalid = browser
        .element("#end")
        .await
        .attribute("aria-invalid")
        .await;
    assert_eq!(invalid.as_deref(), Some("true"));
    browser.console().await;
    desk.go("/dashboard?start=2025-01-01&end=2025-01-31&country=FR")
        .await;
    browser
        .element_saying("h3", "No messages in this range")
        .await;

    browser.element(".logout button").await.click().await;
    browser.element("#token").await;
    desk.go(RANGE).await;
    browser.element("#token").await;
    desk.expect_quiet(&browser.console().await);
}

#[tokio::test]
async fn figures_stay_fresh_and_what_is_open_stays_open() {
    let desk = Desk::open().await;
    let browser = &desk.browser;
    desk.log_in().await;
    let before = desk.traffic.messages;
    let (first, next) = (before.to_string(), (before + 1).to_string());
    browser.element_saying("b", &first).await;
    browser
        .run("document.querySelector('#data-statuses summary').focus()")
        .await;
    browser.press(&[ENTER]).await;
    desk.server().send(&phone(7)).await.expect_status(200);
    browser.element_saying("b", &next).await;
    let stays = "const summary = document.querySelector('#data-statuses summary'); return [summary.parentNode.open, document.activeElement === summary]";
    assert_eq!(browser.run(stays).await, json!([true, true]));

    // Who has stopped it is left alone.
    browser.element("#live").await.click().await;
    let pressed = browser
        .element("#live")
        .await
        .attribute("aria-pressed")
        .await;
    assert_eq!(pressed.as_deref(), Some("false"));

    // Without a script it is the same page, of the moment.
    browser.allow_scripts(false).await;
    desk.go(RANGE).await;
    browser.element_saying("b", &next).await;
    browser
        .element("#data-timeline summary")
        .await
        .click()
        .await;
    browser.element("#data-timeline[open] table").await;
    browser.allow_scripts(true).await;
    desk.expect_quiet(&browser.console().await);
}

#[tokio::test]
async fn figures_are_downloaded_as_csv_and_json() {
    let desk = Desk::open().await;
    let browser = &desk.browser;
    desk.log_in().await;
    let folder = tempfile::tempdir().unwrap();
    browser.download_to(folder.path()).await;
    browser
        .element("#data-countries summary")
        .await
        .click()
        .await;
    browser.element("#file-countries").await.click().await;
    let text = downloaded(&folder.path().join("countersign-countries.csv")).await;
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("Country,Messages,Cost (USD),Estimated (USD)")
    );
    let counts = lines.map(|line| line.split(',').nth(1).unwrap().parse::<usize>().unwrap());
    assert_eq!(counts.sum::<usize>(), desk.traffic.messages, "{text}");

    browser.element("#file-json").await.click().await;
    let text = downloaded(&folder.path().join("countersign.json")).await;
    let figures: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(figures["stats"]["total"], desk.traffic.messages);
    assert_eq!(figures["end"], "2026-03-04T00:00:00Z");
    desk.expect_quiet(&browser.console().await);
}

/// A file that the browser keeps, when it is whole.
async fn downloaded(path: &Path) -> String {
    let what = format!("{} is there", path.display());
    eventually(&what, async || {
        let text = std::fs::read_to_string(path).ok();
        text.filter(|text| !text.is_empty())
    })
    .await
}

#[tokio::test]
async fn a_message_is_found_by_its_number_and_shown_whole_with_a_trace() {
    let desk = Desk::open().await;
    let browser = &desk.browser;
    let nothing = json!([]);
    desk.log_in().await;
    browser.element_saying("a", "Messages").await.click().await;
    browser.element_saying("h2", "The newest").await;
    assert_eq!(browser.run(STRUCTURE).await, nothing);

    // As a person writes it, and never in an address.
    let number = desk.traffic.twilio.messages()[0].to.clone();
    let typed = format!("{} {}", &number[..5], &number[5..]);
    browser.element("#phone").await.type_in(&typed).await;
    browser.element("button.main").await.click().await;
    browser.element_saying("h2", "Found").await;
    let rows = "return document.querySelectorAll('tbody tr').length";
    assert_eq!(browser.run(rows).await, json!(1));
    let place = desk.place().await;
    assert!(place.starts_with("/dashboard/messages?search="), "{place}");
    assert!(!place.contains(&number[1..]), "{place}");
    assert_eq!(browser.run(CONTRAST).await, nothing);

    browser.element("tbody a").await.click().await;
    browser.element_saying("h2", "What happened").await;
    let page = browser.element("main").await.text().await;
    assert!(
        page.contains("receipt: ") && !page.contains(&number),
        "{page}"
    );
    assert_eq!(browser.run(STRUCTURE).await, nothing);
    assert_eq!(browser.run(CONTRAST).await, nothing);
    let id = browser.element("dd code").await.text().await;
    browser.element(".story button").await.click().await;
    browser.element_saying("b", &number).await;
    assert_eq!(
        desk.place().await,
        format!("/dashboard/messages/{id}/reveal")
    );
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let trail = get(desk.server(), "/admin/audit", &[("authorization", &bearer)]).await;
    let trail = trail.expect_status(200).text();
    assert!(trail.contains(&id) && !trail.contains(&number), "{trail}");
    assert!(trail.contains("number.searched"), "{trail}");

    // Back, to what was found, without asking whether a form is to be sent again.
    browser.run("history.go(-2)").await;
    browser.element_saying("h2", "Found").await;
    assert_eq!(desk.place().await, place);
    assert_eq!(browser.run(rows).await, json!(1));
    // The address of the whole number is that of the masked one for who comes back to it.
    desk.go(&format!("/dashboard/messages/{id}/reveal")).await;
    browser.element_saying("h2", "What happened").await;
    assert_eq!(desk.place().await, format!("/dashboard/messages/{id}"));
    let page = browser.element("main").await.text().await;
    assert!(!page.contains(&number), "{page}");

    // By its id too; what is none is told.
    desk.go("/dashboard/messages").await;
    browser.element("#id").await.type_in(&id).await;
    browser.element("button.main").await.click().await;
    browser.element_saying("h2", "What happened").await;
    for width in [320, 390] {
        browser.resize(width, 800).await;
        assert_eq!(browser.run(BEYOND).await, nothing, "{width}");
        desk.go("/dashboard/messages").await;
        browser.element("#found").await;
        assert_eq!(browser.run(BEYOND).await, nothing, "{width}");
    }
    desk.expect_quiet(&browser.console().await);
    browser.element("#phone").await.type_in("12").await;
    browser.element("button.main").await.click().await;
    let told = browser.element("p[role=alert]").await.text().await;
    assert!(told.contains("Invalid phone number"), "{told}");
}

#[tokio::test]
async fn messages_are_for_who_has_logged_in_and_asked_from_our_own_page() {
    let server = quiet().await;
    let sent = server.send(&phone(1)).await.expect_status(200).json();
    let id = sent["messageId"].as_str().unwrap();
    let (page, reveal) = (
        format!("/dashboard/messages/{id}"),
        format!("/dashboard/messages/{id}/reveal"),
    );
    get(&server, "/dashboard/messages", &[])
        .await
        .expect_status(303);
    get(&server, &page, &[]).await.expect_status(303);
    for path in ["/dashboard/messages", &reveal] {
        let answer = post(&server, path, "", &[]).await.expect_status(303);
        let next = "/dashboard/login?next=%2Fdashboard%2Fmessages";
        assert_eq!(answer.header("location"), Some(next));
    }
    let cookie = log_in(&server).await;
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("cookie", cookie.as_str()),
    ];
    post(&server, &reveal, "", &foreign)
        .await
        .expect_status(403);
    let own = [
        ("sec-fetch-site", "same-origin"),
        ("cookie", cookie.as_str()),
    ];
    let shown = post(&server, &reveal, "", &own).await.expect_status(200);
    assert!(shown.text().contains(&phone(1)));
    let absent = format!("/dashboard/messages/{}", "0".repeat(32));
    get(&server, &absent, &own).await.expect_status(404);
}

#[tokio::test]
async fn a_search_is_sealed_into_an_address_and_good_for_who_has_logged_in() {
    let server = quiet().await;
    for n in 0..3 {
        server.send(&phone(n)).await.expect_status(200);
    }
    let cookie = log_in(&server).await;
    let cookie = [("cookie", cookie.as_str())];
    let list = "/dashboard/messages";
    // Nothing typed is the page of the newest.
    let all = post(&server, list, "phone=&start=&end=&id=", &cookie).await;
    assert_eq!(all.expect_status(303).header("location"), Some(list));
    let form = "phone=%20%2B1+202+4560001&start=2026-01-01";
    let found = post(&server, list, form, &cookie).await.expect_status(303);
    let address = found.header("location").unwrap().to_owned();
    assert!(!address.contains("4560001"), "{address}");
    let page = get(&server, &address, &cookie)
        .await
        .expect_status(200)
        .text();
    assert_eq!(page.matches("+1202•••••01").count(), 1, "{page}");
    assert!(page.contains("value=\"2026-01-01\""), "{page}");
    let again = post(&server, list, form, &cookie).await.expect_status(303);
    assert_ne!(
        again.header("location"),
        Some(&*address),
        "nor does it tell that it is the same"
    );

    // Who has not logged in comes to it by the form, and to nothing without.
    let login = get(&server, &address, &[]).await.expect_status(303);
    let next = login.header("location").unwrap();
    assert!(next.starts_with("/dashboard/login?next=%2Fdashboard%2Fmessages%3Fsearch%3D"));
    let (start, end) = address.split_at(address.len() - 8);
    for broken in [
        format!("{start}AAAA{}", &end[4..]),
        format!("{list}?search="),
    ] {
        let told = get(&server, &broken, &cookie)
            .await
            .expect_status(400)
            .text();
        assert!(
            told.contains("role=\"alert\">This search is over."),
            "{told}"
        );
    }
    for (wrong, words) in [
        ("phone=12", "Invalid phone number"),
        ("start=31.1.2026", "A day is written as 2026-01-31"),
        (
            "start=2026-01-02&end=2026-01-01",
            "“To” must not be before “From”",
        ),
        ("id=x", "32 hexadecimal digits"),
    ] {
        let told = post(&server, list, wrong, &cookie)
            .await
            .expect_status(400)
            .text();
        assert!(
            told.contains(words) && told.contains("aria-invalid"),
            "{told}"
        );
    }
}

/// What readers with a screen reader go by, and what is wrong with it.
const STRUCTURE: &str = r#"
    const wrong = [];
    const name = (element) => element.getAttribute("aria-label") || element.textContent.trim()
        || element.labels?.[0]?.textContent.trim() || element.alt;
    for (const element of document.querySelectorAll("a, button, input:not([type=hidden], [hidden]), select, summary, ul[aria-label], section")) {
        const by = element.getAttribute("aria-labelledby");
        const label = by ? document.getElementById(by)?.textContent : name(element);
        if (!label) wrong.push("without a name: " + element.outerHTML.slice(0, 120));
    }
    for (const image of document.querySelectorAll("svg, img")) {
        const told = image.closest("[aria-hidden=true], [role=img][aria-label]") || image.hasAttribute("alt");
        if (!told) wrong.push("an image without words: " + image.outerHTML.slice(0, 120));
    }
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
        const next = Number(heading.tagName[1]);
        if (next > level + 1) wrong.push("a level is left out: " + heading.textContent);
        level = next;
    }
    if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
    if (document.querySelectorAll("main").length !== 1) wrong.push("not one main");
    if (!document.documentElement.lang) wrong.push("no language");
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("twice: #" + id);
    for (const cell of document.querySelectorAll("th")) if (!cell.scope) wrong.push("a head of nothing");
    return wrong;
"#;

/// Text that is too faint on its ground (WCAG 2.2, 1.4.3).
const CONTRAST: &str = r#"
    const color = (text) => {
        const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
        return { rgb: [r, g, b], a };
    };
    const light = ({ rgb }) => rgb.map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const of = color(getComputedStyle(at).backgroundColor);
            if (of.a === 1) return of;
        }
        return color(getComputedStyle(document.body).backgroundColor);
    };
    const faint = [];
    for (const details of document.querySelectorAll("details")) details.open = true;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || element.closest("title, .unseen, script, select")) continue;
        const style = getComputedStyle(element);
        const [one, other] = [color(element.closest("svg") ? style.fill : style.color), ground(element)].map(light);
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) faint.push(`${texts.currentNode.data}: ${ratio.toFixed(2)}`);
    }
    return faint;
"#;

/// What reaches beyond the window, all tables being open.
const BEYOND: &str = r#"
    for (const details of document.querySelectorAll("details")) details.open = true;
    const page = document.documentElement;
    const width = visualViewport.width * visualViewport.scale;
    if (page.scrollWidth <= width) return [];
    const beyond = [...document.body.querySelectorAll("*")].filter((element) =>
        !element.closest(".scroll *") && element.getBoundingClientRect().right > width);
    return [`${page.scrollWidth} of ${width}`, ...beyond.map((element) => element.outerHTML.slice(0, 200))];
"#;

#[tokio::test]
async fn everybody_can_read_it_light_and_dark_by_keyboard_and_on_a_phone() {
    let desk = Desk::open().await;
    let browser = &desk.browser;
    let nothing = json!([]);
    let grounds = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.run(STRUCTURE).await, nothing, "the login");
    desk.log_in().await;
    assert_eq!(browser.run(STRUCTURE).await, nothing);

    let mut seen = Vec::new();
    for is_dark in [false, true] {
        browser.prefer_dark(is_dark).await;
        seen.push(browser.run(grounds).await);
        for path in [
            RANGE,
            "/dashboard?start=2025-01-01&end=2025-01-31&country=FR",
        ] {
            desk.go(path).await;
            browser.element("#figures").await;
            assert_eq!(
                browser.run(CONTRAST).await,
                nothing,
                "dark: {is_dark}, {path}"
            );
        }
    }
    assert_ne!(seen[0], seen[1]);

    // By keyboard: past the head, to the figures, into a table.
    desk.go(RANGE).await;
    browser.element("#figures").await;
    browser.press(&[TAB]).await;
    let focused = "return document.activeElement.id || document.activeElement.className";
    assert_eq!(browser.run(focused).await, "skip");
    browser.press(&[ENTER]).await;
    assert_eq!(browser.run(focused).await, "main");
    browser.press(&[TAB]).await;
    let outline = "const style = getComputedStyle(document.activeElement); return [document.activeElement.textContent, style.outlineStyle]";
    assert_eq!(browser.run(outline).await, json!(["Today", "solid"]));
    browser.press(&[ENTER]).await;
    browser.element("a[aria-current=true]").await;
    assert_eq!(desk.place().await, "/dashboard?last=1");

    for (width, height) in [(390, 844), (320, 640), (768, 1024)] {
        browser.resize(width, height).await;
        for path in [RANGE, LOGIN] {
            desk.go(path).await;
            browser.element("main").await;
            assert_eq!(browser.run(BEYOND).await, nothing, "{width}: {path}");
        }
    }
    desk.expect_quiet(&browser.console().await);
}

//! Texts of messages: by language and purpose, by what they cost, and what is refused in them.

use countersign_tests::{Builder, FakeTwilio, Server, eventually, phone};
use serde_json::{Value, json};

use crate::messages::story_until;

const SEND: &str = "/api/otp/send";
const MESSAGES: &str = "/api/messages";

const TEXTS: &str = r#"
[otp]
purposes = ["verification", "payment"]
domain = "login.example.com"

[[template]]
name = "verification"
locale = "de"
text = "Ihr Code lautet: {code}"

[[template]]
name = "verification"
locale = "de"
purpose = "payment"
text = "Ihr Code zum Bezahlen lautet: {code}"

[[template]]
name = "verification"
purpose = "login"
text = "Your login code: {code}"

[[template]]
name = "verification"
locale = "es-419"
text = "Tu codigo: {code}"

[[template]]
name = "verification"
locale = "zh-Hant"
text = "驗證碼：{code}"

[[template]]
name = "order"
text = "Order {number} is on its way."
segments-max = 2

[[template]]
name = "order"
locale = "pt-PT"
text = "A encomenda {number} vai a caminho."
"#;

/// The first line of the next message to `to`, with `#` for its digits.
async fn first_line(twilio: &FakeTwilio, to: &str) -> String {
    let message = twilio.message_to(to).await;
    let line = message.body.lines().next().unwrap();
    line.chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect()
}

#[tokio::test]
async fn a_code_is_sent_in_the_readers_language_or_the_nearest_one_by_cldr() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).config(TEXTS);
    let server = server.start().await;
    let english = "Your verification code is: ######";
    for (n, (locale, purpose, want)) in [
        (None, None, english),
        (Some("de"), None, "Ihr Code lautet: ######"),
        (Some("de-CH"), None, "Ihr Code lautet: ######"),
        (
            Some("DE-at"),
            Some("payment"),
            "Ihr Code zum Bezahlen lautet: ######",
        ),
        (Some("es-MX"), None, "Tu codigo: ######"),
        (Some("es-ES"), None, english),
        (Some("zh-TW"), None, "驗證碼：######"),
        (Some("zh-CN"), None, english),
        (Some("fr"), Some("payment"), english),
        (Some("not-a-tag-at-all"), None, english),
    ]
    .into_iter()
    .enumerate()
    {
        let to = phone(n);
        let body = json!({ "phoneNumber": to, "locale": locale, "purpose": purpose });
        server.post(SEND, &body).await.expect_success();
        assert_eq!(first_line(&twilio, &to).await, want, "{locale:?}");
        // The last line for browsers is behind each of them.
        let text = twilio.message_to(&to).await.body;
        let (text, last) = text.rsplit_once('\n').unwrap();
        let code = last.strip_prefix("@login.example.com #").unwrap();
        assert!(code.len() == 6 && text.contains(code), "{text}");
        let check = json!({ "phoneNumber": to, "code": code, "purpose": purpose });
        server
            .post("/api/otp/verify", &check)
            .await
            .expect_success();
    }
}

#[tokio::test]
async fn a_message_is_sent_in_the_readers_language_and_says_how_many_sms_it_is() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder().twilio(&twilio).config(TEXTS);
    let server = server.start().await;
    let order = |n: usize, locale: &str, number: String| {
        json!({
            "to": phone(n), "template": "order", "locale": locale, "variables": { "number": number },
        })
    };
    let english = order(1, "en", "1".to_owned());
    let accepted = server.post(MESSAGES, &english).await.expect_status(202);
    assert_eq!(accepted.json()["segments"], 1);
    assert_eq!(
        first_line(&twilio, &phone(1)).await,
        "Order # is on its way."
    );
    // Angola reads what Portugal does, Brazil does not.
    for (n, locale, want) in [
        (2, "pt-AO", "A encomenda # vai a caminho."),
        (3, "pt-BR", "Order # is on its way."),
    ] {
        let body = order(n, locale, "1".to_owned());
        server.post(MESSAGES, &body).await.expect_status(202);
        assert_eq!(first_line(&twilio, &phone(n)).await, want);
    }
    // 21 letters are there already.
    let long = server
        .post(MESSAGES, &order(4, "en", "x".repeat(150)))
        .await;
    assert_eq!(long.expect_status(202).json()["segments"], 2);
    // One letter that the GSM alphabet lacks, and the same length is 3 SMS.
    let odd = format!("{}ł", "x".repeat(149));
    let refused = server.post(MESSAGES, &order(5, "en", odd)).await;
    let refused = refused.expect_problem(400).json();
    assert_eq!(refused["field"], "variables");
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("3 SMS") && detail.contains("allows 2"),
        "{detail}"
    );
}

#[tokio::test]
async fn no_request_offers_a_code_to_a_page_or_gets_into_a_text_with_one() {
    let twilio = FakeTwilio::start().await;
    let config = "[[template]]\nname = \"greeting\"\ntext = \"Hello!\\n{name}\"\n";
    let config = format!("{TEXTS}{config}");
    let server = Server::builder().twilio(&twilio).config(&config);
    let mut server = server.start().await;
    for name in [
        "@bank.example #123456",
        "@bank.example #123456 %shop.example",
        "@a #b",
    ] {
        let body = json!({ "to": phone(1), "template": "greeting", "variables": { "name": name } });
        let refused = server
            .post(MESSAGES, &body)
            .await
            .expect_problem(400)
            .json();
        assert_eq!(refused["field"], "variables", "{name}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("offers a code to a web page"), "{detail}");
    }
    for name in [
        "\n@bank.example #123456",
        "x\r@bank.example #1",
        "x\u{2028}@bank.example #1",
    ] {
        let body = json!({ "to": phone(1), "template": "greeting", "variables": { "name": name } });
        server.post(MESSAGES, &body).await.expect_problem(400);
    }
    // Nothing of a send but its number is in the message.
    let bait = "https://bank.example";
    let body = json!({
        "phoneNumber": phone(2), "text": bait, "variables": { "code": bait, "minutes": bait },
        "template": "greeting", "name": bait, "domain": "bank.example", "locale": "de",
    });
    server.post(SEND, &body).await.expect_success();
    let text = twilio.message_to(&phone(2)).await.body;
    assert!(!text.contains("bank"), "{text}");
    assert!(server.terminate().await.success());
    assert_eq!(twilio.messages().len(), 1);
}

#[tokio::test]
async fn a_text_that_cannot_be_used_stops_the_start_with_what_to_do() {
    let of = |keys: &str| format!("[[template]]\nname = \"verification\"\n{keys}\n");
    let order = "[[template]]\nname = \"order\"\ntext = \"{n}\"\n";
    for (config, words) in [
        (of("locale = \"de\"\ntext = \"Hallo\""), "{code}"),
        (of("locale = \"de\"\ntext = \"{code} {name}\""), "{name}"),
        (
            of("locale = \"deutsch!\"\ntext = \"{code}\""),
            "language tag",
        ),
        (
            of("purpose = \"sale\"\ntext = \"{code}\""),
            "verification, login",
        ),
        (of("text = \"{code}\""), "otp.text"),
        (
            format!("{order}[[template]]\nname = \"order\"\nlocale = \"de\"\ntext = \"x\"\n"),
            "{n}",
        ),
        (
            "[[template]]\nname = \"order\"\nlocale = \"de\"\ntext = \"x\"\n".to_owned(),
            "without `locale`",
        ),
        (
            format!("{order}[[template]]\nname = \"pin\"\ntext = \"{{n}}\\n@{{h}} #{{n}}\"\n"),
            "offers a code",
        ),
        (
            format!(
                "[otp]\nsegments-max = 1\ntext = \"{{code}}{}\"\n",
                "x".repeat(160)
            ),
            "otp.segments-max",
        ),
    ] {
        let refused = Server::builder().console().config(&config).finish().await;
        refused.expect_refusal(&[words]);
    }
}

/// A server whose file its commands read as well.
fn with_file(config: &str) -> Builder {
    let builder = Server::builder().console().config(config);
    let file = builder.home().join("countersign.toml");
    builder.env("COUNTERSIGN_CONFIG", file.to_str().unwrap())
}

/// A curly apostrophe in a text that is one SMS without it.
const CURLY: &str = "[otp]\ntext = \"Your code is {code}. Don\u{2019}t tell it to anybody, whoever may ask you \
                     for it, us included.\"\n";

#[tokio::test]
async fn one_letter_that_doubles_the_price_is_told_at_the_start_and_by_commands() {
    let builder = with_file(CURLY);
    for args in [&["doctor"][..], &["template", "list"]] {
        let said = builder.run(args).await;
        for words in [
            "2 SMS instead of 1",
            "(U+2019; line 1, character 25: write `'`)",
        ] {
            assert!(said.stdout.contains(words), "{args:?}: {said:?}");
        }
    }
    let server = builder.start().await;
    let find = |text: &str| text.contains("2 SMS instead of 1").then_some(());
    assert!(server.stderr().find("a warning", find).await.is_some());
}

const PRICES: &str = "
[analytics]
currency = \"EUR\"
rates = { USD = 0.5 }
[analytics.prices.console]
currency = \"USD\"
default = 0.05
US = 0.0079
";

#[tokio::test]
async fn a_command_shows_what_a_message_looks_like_takes_and_costs() {
    let builder = with_file(&format!("{TEXTS}{PRICES}"));
    let listed = builder.run(&["template", "list", "--json"]).await;
    let listed = listed.expect_success().json();
    let all = listed["templates"].as_array().unwrap();
    assert_eq!(all.len(), 8, "{listed}");
    let chinese = all.iter().find(|one| one["locale"] == "zh-Hant").unwrap();
    assert_eq!(chinese["encoding"], "UCS-2");
    assert_eq!(chinese["segments"], 1);
    let show = async |args: &[&str]| {
        let args: Vec<&str> = ["template", "show"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        builder.run(&args).await
    };
    let json = show(&[
        "order",
        "--locale",
        "pt-MZ",
        "--set",
        "number=12",
        "--country",
        "US",
        "--json",
    ]);
    let order: Value = json.await.expect_success().json();
    assert_eq!(order["text"], "A encomenda 12 vai a caminho.");
    assert_eq!(
        (&order["locale"], &order["encoding"]),
        (&json!("pt-PT"), &json!("GSM-7"))
    );
    assert_eq!(
        (&order["units"], &order["segments"]),
        (&json!(29), &json!(1))
    );
    let cost = json!([{ "provider": "console", "amount": "0.0079", "currency": "USD" }]);
    assert_eq!(order["costs"], cost);
    let long = format!("number={}", "x".repeat(150));
    let long = show(&["order", "--set", &long, "--country", "DE"]).await;
    let text = long.expect_success().stdout;
    assert!(text.contains("2 SMS: 171 units of GSM-7"), "{text}");
    assert!(text.contains("0.1 USD with console"), "{text}");
    let code = show(&["verification", "--purpose", "login"]).await;
    let text = code.expect_success().stdout;
    assert!(text.contains("Your login code: 123456"), "{text}");
    assert!(text.contains("@login.example.com #123456"), "{text}");
    for (args, words) in [
        (&["order"][..], "--set number=VALUE"),
        (&["order", "--set", "x=1"], "no placeholder `{x}`"),
        (&["nothing"], "template list"),
    ] {
        let failed = show(args).await;
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        assert!(failed.stderr.contains(words), "{args:?}: {failed:?}");
    }
    for args in [
        &["order", "--locale", "x"][..],
        &["order", "--country", "USA"],
    ] {
        assert_eq!(show(args).await.status.code(), Some(2), "{args:?}");
    }
}

#[tokio::test]
async fn an_estimate_is_of_all_the_sms_that_a_message_takes() {
    let config = format!("{TEXTS}{PRICES}");
    let server = Server::builder().console().config(&config);
    let server = server.env("COUNTERSIGN_ADMIN_TOKEN", "t").start().await;
    let body = json!({
        "to": phone(1), "template": "order", "variables": { "number": "x".repeat(150) },
    });
    let accepted = server.post(MESSAGES, &body).await.expect_status(202).json();
    let id = accepted["id"].as_str().unwrap();
    // The console says nothing of segments, so they are counted here.
    let story = story_until(&server, id, "sent").await;
    assert_eq!(story["segments"], 2, "{story}");
    let path = "/api/analytics/dashboard?start=2026-01-01&end=2035-12-31&interval=month";
    let told = eventually("both SMS are estimated", async || {
        let answer = server
            .with_key("t")
            .get(path)
            .await
            .expect_status(200)
            .json();
        (answer["cost"]["estimated"] != 0).then_some(answer)
    });
    // 2 SMS of 0.0079 dollars, in euros.
    assert_eq!(told.await["cost"]["estimated"], 0.0079);
}

//! Whole calls: requests as Twilio's API wants them, answers, and signed callbacks.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_provider::fake::{Fake, message, response};
use countersign_provider::{
    Accepted, Authorization, Basic, Body, Callback, CallbackError, ErrorClass, Message, Method,
    Price, Provider, Reply, Response, SendError, Status, StatusUpdate, Text, Wish, reply,
};
use proptest::prelude::*;

use crate::{Twilio, messages};

const SM: &str = "SM0123456789abcdef0123456789abcdef";
const TOKEN: (&str, &str) = ("auth-token", "countersign-test-token");

fn fake() -> Fake {
    let settings = [("account-sid", "AC1"), ("from", "+15005550006")];
    Fake::new(&settings, &[TOKEN])
}

/// A host that answers requests with these.
fn answering(answers: impl IntoIterator<Item = Response>) -> Fake {
    Fake {
        answers: answers.into_iter().map(Ok).collect(),
        ..fake()
    }
}

fn answer(status: u16, body: &str) -> Response {
    response(status, body)
}

fn created() -> Response {
    answer(
        201,
        &format!(
            r#"{{"sid":"{SM}","status":"queued","num_segments":"1","price":null,"price_unit":"USD"}}"#
        ),
    )
}

fn send(fake: &mut Fake) -> Result<Accepted, SendError> {
    messages::send(fake, &message())
}

fn form_of(fake: &Fake) -> Vec<(&str, &str)> {
    fake.form()
}

// Sending.

#[test]
fn a_message_is_posted_to_the_account() {
    let mut fake = answering([created()]);
    let accepted = send(&mut fake);
    assert_eq!(
        accepted,
        Ok(Accepted {
            ids: vec![SM.into()],
            segments: Some(1),
            price: None,
            attributes: Vec::new(),
        })
    );
    let request = fake.last();
    assert_eq!(request.method, Method::Post);
    let basic = Authorization::Basic(Basic {
        username: Text::Plain("AC1".into()),
        password: Text::Credential("auth-token".into()),
    });
    assert_eq!(request.authorization, basic);
    assert_eq!(
        request.url,
        "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json"
    );
    assert_eq!(
        form_of(&fake),
        [
            ("To", "+12025550123"),
            ("From", "+15005550006"),
            ("Body", "Your code: 123456 & more"),
            ("ValidityPeriod", "599"),
        ]
    );
}

#[test]
fn the_base_url_can_be_a_test_server() {
    let mut fake = answering([created()]);
    fake.settings
        .push(("base-url", "http://127.0.0.1:4010/".into()));
    send(&mut fake).expect("accepted");
    assert_eq!(
        fake.last().url,
        "http://127.0.0.1:4010/2010-04-01/Accounts/AC1/Messages.json"
    );
}

#[test]
fn a_status_callback_is_asked_for_where_one_is_wanted() {
    let mut fake = answering([created()]);
    let url = "https://sms.example.test/webhooks/twilio-main";
    let wish = Message {
        status_callback: Some(url.into()),
        ..message()
    };
    messages::send(&mut fake, &wish).expect("accepted");
    assert!(form_of(&fake).contains(&("StatusCallback", url)));
}

#[track_caller]
fn check_sender(settings: &[(&'static str, &'static str)], wish: Option<&str>, want: (&str, &str)) {
    let mut fake = answering([created()]);
    let all = [&[("account-sid", "AC1")], settings].concat();
    fake.settings = Fake::new(&all, &[]).settings;
    let wish = Message {
        sender: wish.map(Into::into),
        ..message()
    };
    messages::send(&mut fake, &wish).expect("accepted");
    assert_eq!(form_of(&fake)[1], want);
}

#[test]
fn the_routes_sender_goes_first_then_the_messaging_service_then_from() {
    let service = ("messaging-service-sid", "MG2");
    let from = ("from", "+15005550006");
    let mg = "MG0123456789abcdef0123456789abcdef";
    check_sender(&[from], None, ("From", "+15005550006"));
    check_sender(&[service], None, ("MessagingServiceSid", "MG2"));
    check_sender(&[from, service], None, ("MessagingServiceSid", "MG2"));
    check_sender(&[from, service], Some("Acme"), ("From", "Acme"));
    check_sender(&[from, service], Some("MGM"), ("From", "MGM"));
    check_sender(&[from], Some(mg), ("MessagingServiceSid", mg));
}

#[test]
fn without_an_account_or_a_sender_nothing_is_sent() {
    let check = |settings: &[(&'static str, &'static str)], text: &str| {
        let mut fake = fake();
        fake.settings = Fake::new(settings, &[]).settings;
        let error = send(&mut fake).expect_err("misconfigured");
        assert_eq!(error.class, ErrorClass::Auth);
        assert!(error.text.contains(text), "{}", error.text);
    };
    check(&[("from", "+1")], "`account-sid`");
    check(
        &[("from", "+1"), ("account-sid", "AC1/../AC2")],
        "`account-sid`",
    );
    check(&[("account-sid", "AC1")], "`messaging-service-sid`");
}

#[test]
fn the_validity_period_stays_in_twilios_bounds() {
    for (validity, want) in [
        (0, "1"),
        (999, "1"),
        (1_999, "1"),
        (600_000, "600"),
        (36_001_000, "36000"),
        (u64::MAX, "36000"),
    ] {
        let mut fake = answering([created()]);
        let wish = Message {
            validity,
            ..message()
        };
        messages::send(&mut fake, &wish).expect("accepted");
        assert!(form_of(&fake).contains(&("ValidityPeriod", want)));
    }
}

#[test]
fn an_answer_may_bring_price_and_segments_already() {
    let body = r#"{"sid":"SM1","num_segments":"2","price":"-0.0158","price_unit":"USD"}"#;
    let accepted = send(&mut answering([answer(201, body)])).expect("accepted");
    assert_eq!(accepted.segments, Some(2));
    let price = Price {
        amount: "0.0158".into(),
        currency: "USD".into(),
    };
    assert_eq!(accepted.price, Some(price));
    let later = r#"{"sid":"SM1","num_segments":"0"}"#;
    let accepted = send(&mut answering([answer(201, later)])).expect("accepted");
    assert_eq!(accepted.segments, None);
}

#[test]
fn a_2xx_that_cannot_be_read_has_an_unknown_outcome() {
    for body in ["", "<html>", "[]", "{}", r#"{"sid":""}"#, r#"{"sid":1}"#] {
        let error = send(&mut answering([answer(200, body)])).expect_err(body);
        assert_eq!(error.class, ErrorClass::UnknownOutcome, "{body}");
    }
}

#[test]
fn a_request_without_an_answer_is_retryable_only_if_it_was_not_sent() {
    for (maybe_sent, class) in [
        (false, ErrorClass::Retryable),
        (true, ErrorClass::UnknownOutcome),
    ] {
        let error = send(&mut fake().fail(maybe_sent)).expect_err("no answer");
        assert_eq!(error.class, class);
        assert_eq!(error.text, "the connection failed");
    }
}

#[test]
fn a_refusal_carries_twilios_code_and_words() {
    let body = r#"{"code":21211,"message":"The 'To' number is not valid.","status":400}"#;
    let error = send(&mut answering([answer(400, body)])).expect_err("refused");
    assert_eq!(
        error,
        SendError {
            class: ErrorClass::Permanent,
            retry_after: None,
            provider_code: Some("21211".into()),
            text: "HTTP 400, 21211: The 'To' number is not valid.".into(),
            attributes: Vec::new(),
        }
    );
}

#[test]
fn a_refusal_that_cannot_be_read_goes_by_its_http_status() {
    let error = send(&mut answering([answer(403, "<html>")])).expect_err("refused");
    assert_eq!(error.class, ErrorClass::Permanent);
    assert_eq!(error.text, "HTTP 403");
}

#[test]
fn a_throttled_message_waits_as_long_as_twilio_says() {
    let response = Response {
        status: 429,
        headers: vec![("retry-after".into(), "3".into())],
        body: br#"{"code":20429}"#.into(),
        attributes: Vec::new(),
    };
    let error = send(&mut answering([response])).expect_err("throttled");
    assert_eq!(error.class, ErrorClass::Throttled);
    assert_eq!(error.retry_after, Some(3_000));
}

#[test]
fn no_route_from_this_sender_may_fail_over() {
    let error = send(&mut answering([answer(400, r#"{"code":21612}"#)])).expect_err("no route");
    assert_eq!(error.class, ErrorClass::Permanent);
    assert_eq!(error.attributes, [("failover".into(), "allowed".into())]);
}

// Asking.

fn resource(sid: &str) -> String {
    format!(
        r#"{{"sid":"{sid}","status":"undelivered","error_code":30003,"error_message":"Unreachable",
            "num_segments":"1","price":"-0.00790","price_unit":"USD",
            "date_updated":"Thu, 30 Jul 2015 20:12:33 +0000"}}"#
    )
}

#[test]
fn a_message_is_asked_for_by_its_sid() {
    let mut fake = answering([answer(200, &resource(SM))]);
    let updates = messages::fetch_status(&mut fake, &[SM.into()]).expect("an answer");
    let url = format!("https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/{SM}.json");
    assert_eq!(fake.last().url, url);
    assert_eq!(
        (fake.last().method, &fake.last().body),
        (Method::Get, &Body::Empty)
    );
    let [update] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert_eq!(update.id, SM);
    assert_eq!(update.status, Status::Undelivered);
    assert_eq!(update.at, Some(1_438_287_153_000));
    assert_eq!(update.segments, Some(1));
    assert_eq!(
        update.price.as_ref().map(|price| price.amount.as_str()),
        Some("0.00790")
    );
    let error = update.error.as_ref().expect("an error");
    assert_eq!(error.class, ErrorClass::Retryable);
    assert_eq!(error.text, "Twilio 30003: Unreachable");
}

#[test]
fn a_message_without_trouble_has_no_error() {
    let body = r#"{"sid":"SM1","status":"delivered","error_code":null}"#;
    let mut fake = answering([answer(200, body)]);
    let updates = messages::fetch_status(&mut fake, &["SM1".into()]).expect("an answer");
    assert_eq!(updates[0].error, None);
}

#[test]
fn one_call_asks_for_eight_messages_and_never_for_what_is_no_sid() {
    let mut ids: Vec<String> = (0..20).map(|n| format!("SM{n}")).collect();
    ids.insert(0, "../../x".into());
    let answers = (0..8).map(|n| answer(200, &resource(&format!("SM{n}"))));
    let mut fake = answering(answers);
    let updates = messages::fetch_status(&mut fake, &ids).expect("answers");
    assert_eq!(updates.len(), 8);
}

#[test]
fn what_twilio_does_not_know_is_left_out() {
    let mut fake = answering([
        answer(404, r#"{"code":20404}"#),
        answer(200, r#"{"sid":"SM2","status":"received"}"#),
        answer(200, &resource("SM3")),
    ]);
    let ids = ["SM1", "SM2", "SM3"].map(String::from);
    let updates = messages::fetch_status(&mut fake, &ids).expect("answers");
    assert_eq!(updates.len(), 1);
}

#[test]
fn asking_can_always_be_repeated_and_keeps_what_it_has() {
    let mut fake = answering([answer(503, "")]);
    let ids = ["SM1", "SM2"].map(String::from);
    let error = messages::fetch_status(&mut fake, &ids).expect_err("nothing is known");
    assert_eq!(error.class, ErrorClass::Retryable);
    let mut fake = answering([answer(200, &resource("SM1")), answer(503, "")]);
    let updates = messages::fetch_status(&mut fake, &ids).expect("something is known");
    assert_eq!(updates.len(), 1);
    let mut fake = answering([answer(401, r#"{"code":20003}"#)]);
    let error = messages::fetch_status(&mut fake, &ids).expect_err("our key");
    assert_eq!(error.class, ErrorClass::Auth);
}

// Signatures: the vectors of `contracts/sms-providers.md`, made with Twilio's own SDKs.

const URL_1: &str = "https://sms.example.test/webhooks/twilio-main";
const URL_2: &str = "https://sms.example.test:443/webhooks/twilio-main";
const URL_IN: &str = "https://sms.example.test/in";
const V1: &str = "8hhowiu0yw2QF8tfZqRYfJGK9AU=";
const V2: &str = "96HWFQQ3P9EUqibS2cTwwoqRNOY=";
const URL_10: &str = "https://sms.example.test/json?a=1&bodySHA256=54479b297b2f32d9740c86b9a251b753ae26f35cd719e5969da8c7779f2f46ba";
const BODY_10: &str = r#"{"status":"delivered","id":"SM1"}"#;
const V10: &str = "VX0EnytDGznwCg7Z8r2V63fApS0=";

const P: [(&str, &str); 8] = [
    ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
    ("ApiVersion", "2010-04-01"),
    ("From", "+15005550006"),
    ("MessageSid", SM),
    ("MessageStatus", "delivered"),
    ("SmsSid", SM),
    ("SmsStatus", "delivered"),
    ("To", "+4915123456789"),
];

fn form(parameters: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters).finish()
}

fn posted(url: &str, media_type: &str, body: &str, signature: &str) -> Callback {
    Callback {
        method: "POST".into(),
        url: url.into(),
        headers: vec![
            ("content-type".into(), media_type.into()),
            ("x-twilio-signature".into(), signature.into()),
        ],
        body: body.into(),
        attributes: Vec::new(),
    }
}

fn posted_form(url: &str, parameters: &[(&str, &str)], signature: &str) -> Callback {
    let media_type = "application/x-www-form-urlencoded; charset=UTF-8";
    posted(url, media_type, &form(parameters), signature)
}

/// The account of [`P`].
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

fn called() -> Fake {
    let settings = [("account-sid", ACCOUNT), ("from", "+15005550006")];
    Fake::new(&settings, &[TOKEN])
}

fn parse(request: &Callback) -> Result<Vec<StatusUpdate>, CallbackError> {
    Twilio::parse_callback(&mut called(), request).map(|news| news.updates)
}

#[track_caller]
fn check_update(request: &Callback, id: &str, status: Status, code: Option<&str>) {
    let updates = parse(request).expect("signed and understood");
    let [update] = &updates[..] else {
        panic!("{updates:?}")
    };
    assert_eq!((update.id.as_str(), update.status), (id, status));
    let given = update
        .error
        .as_ref()
        .and_then(|error| error.provider_code.as_deref());
    assert_eq!(given, code);
}

#[track_caller]
fn check_unsigned(request: &Callback) {
    assert_eq!(parse(request), Err(CallbackError::Unsigned));
}

/// Signed, as far as it goes: it is no status callback.
#[track_caller]
fn check_signed(request: &Callback) {
    assert_eq!(parse(request), Err(CallbackError::Malformed));
}

#[test]
fn v1_a_form_is_signed() {
    let request = posted_form(URL_1, &P, V1);
    check_update(&request, SM, Status::Delivered, None);
}

#[test]
fn v2_a_url_is_taken_with_and_without_its_port() {
    for url in [URL_1, URL_2] {
        for signature in [V1, V2] {
            let request = posted_form(url, &P, signature);
            check_update(&request, SM, Status::Delivered, None);
        }
    }
}

#[test]
fn v3_the_query_is_signed_as_it_was_called() {
    let url = format!("{URL_1}?tenant=a%20b&x=1");
    let parameters = [("MessageSid", "SM1"), ("MessageStatus", "sent")];
    let request = posted_form(&url, &parameters, "OR9rdqItRVkJHeFZqBmaHV+IWYo=");
    check_update(&request, "SM1", Status::Sent, None);
}

#[test]
fn v4_an_empty_value_counts() {
    let mut parameters = P.to_vec();
    parameters[4].1 = "undelivered";
    parameters[6].1 = "undelivered";
    parameters.extend([("ErrorCode", "30003"), ("Empty", "")]);
    let request = posted_form(URL_1, &parameters, "H+GjTaenXpVyez4cVbs2fCsiGqk=");
    check_update(&request, SM, Status::Undelivered, Some("30003"));
}

#[test]
fn v5_values_are_signed_decoded() {
    let parameters = [("Body", "Grüße 👋"), ("From", "+15005550006")];
    check_signed(&posted_form(
        URL_IN,
        &parameters,
        "/H69LgWYLHGR8WZeQ1UBeZJY89Q=",
    ));
}

#[test]
fn v6_capitals_come_before_small_letters() {
    let parameters = [("b", "2"), ("B", "1"), ("a", "3")];
    check_signed(&posted_form(
        URL_IN,
        &parameters,
        "3K4iT/LDVvpHYHki4vyTVFD7uhE=",
    ));
}

#[test]
fn v7_a_repeated_name_counts_once_for_each_value() {
    let parameters = [
        ("Digits", "5678"),
        ("Digits", "1234"),
        ("Digits", "1234"),
        ("Sid", "CA1"),
        ("SidAccount", "AC1"),
    ];
    check_signed(&posted_form(
        URL_IN,
        &parameters,
        "yrXXT/UvaDLtT+r2q+59IFLq0lw=",
    ));
}

#[test]
fn v8_a_port_that_is_not_the_schemes_is_signed() {
    let parameters = [("MessageSid", "SM1"), ("MessageStatus", "sent")];
    let request = posted_form(
        "http://127.0.0.1:8080/webhooks/twilio-main",
        &parameters,
        "R8TT2wm6eX2Pxgc829o0aoDXlZA=",
    );
    check_update(&request, "SM1", Status::Sent, None);
}

#[test]
fn v9_a_get_is_signed_by_its_url() {
    let request = Callback {
        method: "GET".into(),
        url: format!("{URL_1}?MessageSid=SM1&MessageStatus=sent"),
        headers: vec![(
            "x-twilio-signature".into(),
            "08QYgEAlrhhVBSve7LlFDASybds=".into(),
        )],
        body: Vec::new(),
        attributes: Vec::new(),
    };
    check_update(&request, "SM1", Status::Sent, None);
}

#[test]
fn v10_json_is_signed_by_its_hash_in_the_url() {
    let request = posted(URL_10, "application/json", BODY_10, V10);
    check_update(&request, "SM1", Status::Delivered, None);
}

#[test]
fn twilios_own_vector_is_taken() {
    let parameters = [
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ];
    let request = posted_form(
        "https://mycompany.com/myapp.php?foo=1&bar=2",
        &parameters,
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
    );
    let mut fake = fake();
    fake.credentials = vec![("auth-token", "12345")];
    assert_eq!(
        Twilio::parse_callback(&mut fake, &request),
        Err(CallbackError::Malformed)
    );
}

#[test]
fn a_changed_or_added_parameter_is_unsigned() {
    let mut changed = P;
    changed[7].1 = "+4915123456780";
    check_unsigned(&posted_form(URL_1, &changed, V1));
    let mut added = P.to_vec();
    added.push(("Extra", ""));
    check_unsigned(&posted_form(URL_1, &added, V1));
    check_unsigned(&posted_form(&format!("{URL_1}/"), &P, V1));
}

#[test]
fn a_missing_empty_or_cut_signature_is_unsigned() {
    let mut missing = posted_form(URL_1, &P, V1);
    missing.headers.pop();
    check_unsigned(&missing);
    for signature in [
        "",
        " ",
        "nonsense!",
        &V1[..24],
        &V1[..27],
        V2.trim_start_matches('9'),
    ] {
        check_unsigned(&posted_form(URL_1, &P, signature));
    }
}

#[test]
fn a_body_that_nothing_ties_to_the_signature_is_unsigned() {
    let spaced = format!("{BODY_10} ");
    check_unsigned(&posted(URL_10, "application/json", &spaced, V10));
    // The signature of a GET of this URL, with a body of somebody else's.
    let url = format!("{URL_1}?MessageSid=SM1&MessageStatus=sent");
    let v9 = "08QYgEAlrhhVBSve7LlFDASybds=";
    check_unsigned(&posted(&url, "application/json", BODY_10, v9));
    check_unsigned(&posted(&url, "", BODY_10, v9));
    let mut put = posted_form(URL_1, &P, V1);
    put.method = "PUT".into();
    check_unsigned(&put);
}

/// Signs as Twilio would, written apart from what is tested.
fn signed(url: &str, parameters: &[(&str, &str)]) -> Callback {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let text: String = sorted
        .iter()
        .fold(url.to_owned(), |text, (name, value)| text + name + value);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.1.as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    posted_form(url, parameters, &signature)
}

#[test]
fn what_is_signed_but_no_status_is_malformed() {
    check_signed(&signed(URL_1, &[("MessageSid", "SM1")]));
    check_signed(&signed(URL_1, &[("MessageStatus", "sent")]));
    check_signed(&signed(
        URL_1,
        &[("MessageSid", "SM1"), ("MessageStatus", "teleported")],
    ));
    check_signed(&signed(
        URL_1,
        &[("MessageSid", "a/b"), ("MessageStatus", "sent")],
    ));
}

#[test]
fn what_somebody_sends_to_us_is_a_reply() {
    let message = [
        ("AccountSid", ACCOUNT),
        ("MessageSid", "SM1"),
        ("From", "+12025550123"),
        ("To", "+15005550006"),
        ("Body", "Stop"),
    ];
    let check = |more: &[(&str, &str)], text: &str, wish| {
        let request = signed(URL_1, &[&message[..], more].concat());
        let news = Twilio::parse_callback(&mut called(), &request).expect("signed and understood");
        let want = Reply {
            id: Some("SM1".into()),
            wish,
            ..reply("+12025550123", "+15005550006", text)
        };
        assert_eq!((news.updates.len(), news.replies), (0, vec![want]));
    };
    check(&[("SmsStatus", "received")], "Stop", None);
    check(&[], "Stop", None);
    check(&[("OptOutType", "STOP")], "Stop", Some(Wish::Stop));
    check(&[("OptOutType", "START")], "Stop", Some(Wish::Start));
    check(&[("OptOutType", "HELP")], "Stop", None);
    // From nobody, it is no message.
    check_signed(&signed(
        URL_1,
        &[
            ("AccountSid", ACCOUNT),
            ("SmsSid", "SM1"),
            ("SmsStatus", "received"),
        ],
    ));
}

#[test]
fn what_is_of_another_account_or_to_another_number_is_not_taken() {
    let with = |account: &'static str, to: &'static str| {
        signed(
            URL_1,
            &[
                ("AccountSid", account),
                ("MessageSid", "SM1"),
                ("From", "+12025550123"),
                ("To", to),
                ("Body", "Stop"),
            ],
        )
    };
    let (from, other) = ("+15005550006", "+15005550007");
    assert_eq!(parse(&with(ACCOUNT, from)), Ok(Vec::new()));
    check_signed(&with("AC9", from));
    check_signed(&with("", from));
    check_signed(&with(ACCOUNT, other));
    let update = signed(
        URL_1,
        &[
            ("AccountSid", "AC9"),
            ("MessageSid", "SM1"),
            ("MessageStatus", "sent"),
        ],
    );
    check_signed(&update);
    // A messaging service has numbers of which the settings know nothing.
    let mut service = called();
    service
        .settings
        .push(("messaging-service-sid", "MG1".into()));
    let news = Twilio::parse_callback(&mut service, &with(ACCOUNT, other));
    assert_eq!(news.map(|news| news.replies.len()), Ok(1));
}

/// The signature is over names and values with nothing in between: what somebody has written to us, with
/// this text, can be cut into other parameters by who has seen it.
#[test]
fn a_form_that_was_cut_anew_is_not_taken() {
    let body = "aFrom+12025550199MessageSidSM9OptOutTypeSTOPTo+15005550006Z";
    let sent = [
        ("AccountSid", ACCOUNT),
        ("Body", body),
        ("From", "+12025550123"),
        ("MessageSid", "SM1"),
        ("To", "+15005550006"),
    ];
    let seen = signed(URL_1, &sent);
    assert_eq!(parse(&seen), Ok(Vec::new()), "as it was sent");
    let (_, signature) = seen.headers.last().expect("a signature");
    let cut = |parameters: &[(&str, &str)]| {
        let request = posted_form(URL_1, parameters, signature);
        // It is the very text that was signed.
        assert_ne!(parse(&request), Err(CallbackError::Unsigned));
        check_signed(&request);
    };
    let forged = [
        ("AccountSid", ACCOUNT),
        ("Body", "a"),
        ("From", "+12025550199"),
        ("MessageSid", "SM9"),
        ("OptOutType", "STOP"),
        ("To", "+15005550006"),
    ];
    let rest = "From+12025550123MessageSidSM1To+15005550006";
    cut(&[&forged[..], &[("Z", rest)]].concat());
    let odd = format!("Z{rest}");
    cut(&[&forged[..], &[(&odd, "")]].concat());
    // With the true sender beside the other one.
    let twice = "aFrom+12025550099";
    let seen = signed(
        URL_1,
        &[
            ("AccountSid", ACCOUNT),
            ("Body", twice),
            ("From", "+12025550123"),
            ("MessageSid", "SM1"),
        ],
    );
    let (_, signature) = seen.headers.last().expect("a signature");
    let request = posted_form(
        URL_1,
        &[
            ("AccountSid", ACCOUNT),
            ("Body", "a"),
            ("From", "+12025550099"),
            ("From", "+12025550123"),
            ("MessageSid", "SM1"),
        ],
        signature,
    );
    check_signed(&request);
}

#[test]
fn more_parameters_than_twilio_sends_are_not_looked_at() {
    let names: Vec<String> = (0..101).map(|n| format!("P{n}")).collect();
    let parameters: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    check_signed(&signed(URL_1, &parameters[..100]));
    check_unsigned(&signed(URL_1, &parameters));
    let query = |parameters| format!("{URL_1}?{}", form(parameters));
    check_signed(&signed(&query(&parameters[..100]), &[]));
    check_unsigned(&signed(&query(&parameters), &[]));
}

#[test]
fn a_body_that_grows_when_it_is_decoded_does_not_reach_the_host() {
    let mut request = posted_form(URL_1, &P, V1);
    request.body = vec![0xff; 1 << 20];
    check_unsigned(&request);
}

proptest! {
    #[test]
    fn no_request_makes_the_component_trap(
        method in "GET|POST|PUT",
        url in "(https?://)?[a-z.:\\[\\]0-9]{0,12}[/?#]?.{0,40}",
        media_type in "|application/json|application/x-www-form-urlencoded",
        signature in "|8hhowiu0yw2QF8tfZqRYfJGK9AU=|.{0,40}",
        body: Vec<u8>,
    ) {
        let mut request = posted(&url, &media_type, "", &signature);
        request.method = method;
        request.body = body;
        prop_assert_eq!(parse(&request), Err(CallbackError::Unsigned));
    }

    #[test]
    fn no_answer_makes_the_component_trap(status: u16, body: Vec<u8>) {
        let response = Response { status, headers: Vec::new(), body, attributes: Vec::new() };
        let mut fake = answering([response.clone()]);
        let _ = send(&mut fake);
        let mut fake = answering([response]);
        let _ = messages::fetch_status(&mut fake, &["SM1".into()]);
    }
}

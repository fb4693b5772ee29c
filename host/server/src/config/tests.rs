use super::settings::Settings;
use super::*;
use std::io::Write as _;

fn flags() -> Flags {
    Flags::default()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

fn load(flags: &Flags, environment: &Environment) -> Result<Config, ConfigError> {
    Config::new(&Merged::load(flags, environment)?, environment)
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    load_file_with(text, Environment::from([]))
}

fn load_file_with(text: &str, environment: Environment) -> Result<Config, ConfigError> {
    let file = file(text);
    let flags = Flags {
        config: Some(file.path().to_owned()),
        ..flags()
    };
    load(&flags, &environment)
}

#[track_caller]
fn check_error(outcome: Result<Config, ConfigError>, parts: &[&str]) {
    let error = outcome.err().expect("refused");
    let help = miette::Diagnostic::help(&error).map(|help| help.to_string());
    let text = format!("{error} {}", help.unwrap_or_default());
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn nothing_set_means_the_documented_defaults() {
    let config = load(&flags(), &Environment::from([])).expect("good");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.folders.data, Path::new("data"));
    assert_eq!(config.folders.keys, Path::new("data/keys"));
    assert_eq!(config.reserve_bytes, 268_435_456);
    let queue = config.queue;
    assert_eq!(queue.capacity, 100_000);
    assert_eq!((queue.reserved_percent, queue.caller_percent), (20, 50));
    assert_eq!(config.providers[0].concurrency, 64);
    assert_eq!(config.http.body_bytes_max, 65_536);
    assert!(config.warnings.is_empty() && !config.open);
    let name = ("issuer".to_owned(), "countersign".to_owned());
    assert_eq!(config.services.settings, [name]);
    let TwoFactor { proofs, tokens } = config.two_factor;
    assert_eq!(proofs.issuer, "countersign");
    assert_eq!(proofs.audience, proofs.issuer);
    assert_eq!(proofs.time, Duration::from_secs(300));
    assert_eq!(tokens.login, Duration::from_secs(600));
    assert_eq!(tokens.enroll, Duration::from_secs(1_800));
    assert!(config.providers.len() == 1 && config.providers[0].is_console());
    assert_eq!(config.routes[0].providers, ["console"]);
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let file = file("listen = '127.0.0.1:1'\nlog = 'error'");
    let from_file = Flags {
        config: Some(file.path().to_owned()),
        ..flags()
    };
    let listen = |flags: &Flags, environment: &Environment| {
        load(flags, environment).expect("good").listen.port()
    };
    let variable = Environment::from([("COUNTERSIGN_LISTEN", "127.0.0.1:2")]);
    let flag = Flags {
        listen: Some("127.0.0.1:3".to_owned()),
        ..from_file.clone()
    };
    assert_eq!(listen(&flags(), &Environment::from([])), 8080);
    assert_eq!(listen(&from_file, &Environment::from([])), 1);
    assert_eq!(listen(&from_file, &variable), 2);
    assert_eq!(listen(&flag, &variable), 3);
    let empty = Environment::from([("COUNTERSIGN_LISTEN", "")]);
    assert_eq!(listen(&from_file, &empty), 1);
}

#[test]
fn proofs_are_signed_in_the_name_of_the_public_address() {
    let proofs = |text: &str| load_file(text).expect("good").two_factor.proofs;
    let of = |text: &str| {
        let proofs = proofs(text);
        (proofs.issuer, proofs.audience)
    };
    let both = |text: &str| (text.to_owned(), text.to_owned());
    let public = "public-url = 'https://2fa.example/'\n";
    assert_eq!(of(public), both("https://2fa.example"));
    let named = format!("{public}[two-factor]\nissuer = 'me'");
    assert_eq!(of(&named), both("me"));
    let audience = format!("{public}[two-factor]\naudience = 'shop'");
    let want = ("https://2fa.example".to_owned(), "shop".to_owned());
    assert_eq!(of(&audience), want);
}

#[test]
fn settings_of_two_factor_are_taken_at_their_bounds_and_refused_one_past_them() {
    let load = |line: &str| load_file(&format!("[two-factor]\n{line}"));
    for (key, from, to) in [
        ("proof-seconds", 10, 300),
        ("login-token-seconds", 10, 3_600),
        ("enrolment-token-seconds", 10, 86_400),
        ("enrolment-seconds", 60, 3_600),
        ("enrolments-per-number-per-day", 1, 1_000),
        ("totp-misses-per-quarter-hour", 1, 100),
        ("totp-misses-per-day", 1, 100),
        ("backup-misses-per-quarter-hour", 1, 100),
        ("backup-misses-per-day", 1, 100),
        ("backup-codes", 1, 20),
        ("backup-memory-kib", 1_024, 262_144),
        ("backup-passes", 1, 16),
        ("misses-before-notice", 1, 100),
    ] {
        for good in [from, to] {
            assert!(load(&format!("{key} = {good}")).is_ok(), "{key} = {good}");
        }
        let must = format!("from {from} to {to}");
        for wrong in [from - 1, to + 1] {
            let refused = load(&format!("{key} = {wrong}"));
            check_error(refused, &[&format!("two-factor.{key}"), &must]);
        }
    }
    for (key, bytes_max) in [("issuer", 255), ("audience", 255), ("name", 64)] {
        let of = |text: String| load(&format!("{key} = '{text}'"));
        assert!(of("x".repeat(bytes_max)).is_ok(), "{key}");
        let must = format!("1 to {bytes_max} bytes");
        for wrong in [String::new(), "x".repeat(bytes_max + 1)] {
            check_error(of(wrong), &[&format!("two-factor.{key}"), &must]);
        }
        check_error(load(&format!("{key} = \"a\\u0007\"")), &["control"]);
    }
    check_error(load("name = 'a: b'"), &["two-factor.name", "colon"]);
    for (key, wrong) in [
        ("notice-backup-code", "{left} {code}"),
        ("notice-number", "{left}"),
        ("notice-disabled", "}"),
        ("notice-failures", &"x".repeat(1_601)),
    ] {
        let refused = load(&format!("{key} = '{wrong}'"));
        check_error(refused, &[&format!("two-factor.{key}")]);
        assert!(load(&format!("{key} = ''")).is_ok(), "none is sent");
    }
    let config = load("backup-codes = 8\nnotice-backup-code = 'noch {left}'").expect("fine");
    let settings = &config.services.settings;
    for pair in [("backup-codes", "8"), ("notice-backup-code", "noch {left}")] {
        let pair = (pair.0.to_owned(), pair.1.to_owned());
        assert!(settings.contains(&pair), "{settings:?}");
    }
    for days in [0, 3_651] {
        let refused = load_file(&format!("[audit]\ndays = {days}"));
        check_error(refused, &["audit.days", "from 1 to 3650"]);
    }
    for days in [3, 3_651] {
        let refused = load_file(&format!("[messages]\ndays = {days}"));
        check_error(refused, &["messages.days", "from 4 to 3650"]);
    }
    let config = load_file("[messages]\ndays = 4").expect("fine");
    assert_eq!(config.queue.kept, Duration::from_secs(4 * 24 * 3_600));
}

#[test]
fn settings_of_components_are_taken_at_their_bounds_and_refused_one_past_them() {
    for (key, from, to) in [
        ("versions-kept", 1u64, 100u64),
        ("trial-seconds", 0, 86_400),
        ("bytes-max", 1_024, 268_435_456),
        ("compile-seconds", 1, 3_600),
    ] {
        let load = |value: String| load_file(&format!("[components]\n{key} = {value}"));
        assert!(load(from.to_string()).is_ok(), "{key}");
        assert!(load(to.to_string()).is_ok(), "{key}");
        let name = format!("components.{key}");
        check_error(load((to + 1).to_string()), &[&name]);
        if from > 0 {
            check_error(load((from - 1).to_string()), &[&name]);
        }
    }
    let text = "watch = 'components'\n[components]\ntrial-seconds = 7\nbytes-max = 2048";
    let config = load_file(text).expect("fine");
    let settings = config.services.components;
    assert_eq!(settings.trial, Duration::from_secs(7));
    assert_eq!(settings.bytes_max, 2_048);
    assert_eq!(settings.kept, RegistrySettings::default().kept);
    // Relative to the file's folder, as other paths in it.
    let watch = config.watch.expect("named");
    assert!(
        watch.is_absolute() && watch.ends_with("components"),
        "{watch:?}"
    );
}

#[test]
fn an_unknown_key_is_named_with_its_file() {
    for text in [
        "lissten = '127.0.0.1:1'",
        "[otp]\nlissten = 6",
        "[[provider]]\nname = 'a'\ncomponent = 'provider-console'\nlissten = 1",
        "[[route]]\nproviders = []\nlissten = 1",
    ] {
        let error = load_file(text).err().expect("refused");
        assert!(
            matches!(&error, ConfigError::File { place: Some(_), .. }),
            "{error}"
        );
        assert!(error.to_string().contains("`lissten`"), "{error}");
    }
    check_error(
        load(
            &Flags {
                config: Some("/nowhere/c.toml".into()),
                ..flags()
            },
            &Environment::from([]),
        ),
        &["/nowhere/c.toml"],
    );
}

#[test]
fn every_value_has_a_variable_of_its_name() {
    for (key, kind) in VALUES {
        let text = match kind {
            Kind::Whole => "7",
            Kind::Flag => "true",
            Kind::Text | Kind::Words => "x",
        };
        let name = variable(key);
        let environment = Environment::from([(name.as_str(), text)]);
        assert!(Merged::load(&flags(), &environment).is_ok(), "{name}");
    }
    // And every key of the file is such a value, or one of the lists.
    let error = toml::from_str::<Settings>("x = 1")
        .expect_err("unknown")
        .to_string();
    let keys = error.split('`').skip(3).step_by(2);
    for key in keys.filter(|key| !["provider", "route", "template"].contains(key)) {
        let section = format!("{key}.");
        let known = |(name, _): &(&str, Kind)| *name == key || name.starts_with(&section);
        assert!(VALUES.iter().any(known), "{key}");
    }
}

#[test]
fn settings_of_the_service_are_judged_at_the_start_and_handed_on_as_text() {
    let config = load_file("[otp]\ndigits = 8\npurposes = ['a', 'b']\ntext = '{code}'");
    let want = [
        ("digits", "8"),
        ("purposes", "a,b"),
        ("text", "{code}"),
        ("issuer", "countersign"),
    ];
    let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(config.expect("good").services.settings, want);
    let digits = |digits: &str| {
        let environment = Environment::from([("COUNTERSIGN_OTP_DIGITS", digits)]);
        load(&flags(), &environment)
    };
    assert!(digits("6").is_ok() && digits("10").is_ok());
    check_error(
        digits("5"),
        &["otp.digits", "from 6 to 10", "COUNTERSIGN_OTP_DIGITS"],
    );
    check_error(digits("11"), &["from 6 to 10"]);
    check_error(digits("six"), &["COUNTERSIGN_OTP_DIGITS", "whole number"]);
    check_error(load_file("[otp]\ndigits = 5"), &["otp.digits", "the file"]);
    check_error(load_file("[otp]\nvalid-seconds = 601"), &["from 1 to 600"]);
    check_error(load_file("[otp]\npurposes = ['login']"), &["otp.purposes"]);
    check_error(load_file("[otp]\npurposes = []"), &["otp.purposes"]);
    check_error(
        load_file("[otp]\ntext = 'no code'"),
        &["otp.text", "{code}"],
    );
}

#[test]
fn the_last_lines_of_a_code_are_judged_at_the_start() {
    let domain = |domain: &str| load_file(&format!("[otp]\ndomain = '{domain}'"));
    let config = domain("login.example.com").expect("good");
    let want = ("domain".to_owned(), "login.example.com".to_owned());
    assert!(config.services.settings.contains(&want));
    let name = format!("{0}.{0}.{0}.{1}", "l".repeat(63), "m".repeat(61));
    for good in ["localhost", "xn--bcher-kva.example", "3com.example", &name] {
        assert!(domain(good).is_ok(), "{good}");
    }
    for wrong in [
        "",
        "example",
        "Example.com",
        "bücher.example",
        "https://example.com",
        "example.com:443",
        "example.com/",
        "user@example.com",
        "example.com.",
        "a..example",
        "-a.example",
        "a_b.example",
        "192.0.2.1",
        "{code}.example",
        &format!("{name}m"),
    ] {
        check_error(domain(wrong), &["otp.domain", "bare host name", wrong]);
    }

    let hash =
        |hash: &str, text: &str| load_file(&format!("[otp]\napp-hash = '{hash}'\ntext = '{text}'"));
    assert!(hash("FA+9qCX9VSu", "{code}").is_ok());
    for wrong in ["FA+9qCX9VS", "FA+9qCX9VSuu", "FA-9qCX9VSu"] {
        check_error(hash(wrong, "{code}"), &["otp.app-hash", "11", wrong]);
    }
    // 6 for the code and 13 for the app's line, of the 140 bytes that Android reads.
    assert!(hash("FA+9qCX9VSu", &format!("{{code}}{}", "x".repeat(121))).is_ok());
    check_error(
        hash("FA+9qCX9VSu", &format!("{{code}}{}", "x".repeat(122))),
        &["otp.app-hash", "140", "141"],
    );
}

#[test]
fn a_code_whose_message_is_long_is_warned_of_and_one_beyond_all_bounds_refused() {
    let text = |rest: usize| {
        let text = format!("{{code}}{}", "x".repeat(rest));
        load_file(&format!("[otp]\ndomain = 'example.com'\ntext = '{text}'"))
    };
    // 6 for the code and 22 for the domain's line, of 160.
    assert_eq!(text(132).expect("good").warnings, [""; 0]);
    let long = text(133).expect("good");
    assert!(long.warnings[0].contains("2 SMS") && long.warnings[0].contains("otp.text"));
    assert!(text(1_600 - 6 - 22).is_ok());
    check_error(text(1_600 - 6 - 21), &["otp.text", "1600 bytes"]);
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_source() {
    let flag = Flags {
        listen: Some("localhost".to_owned()),
        ..flags()
    };
    check_error(
        load(&flag, &Environment::from([])),
        &["listen", "--listen", "127.0.0.1:8080"],
    );
    check_error(
        load_file("default-region = 'us'"),
        &["default-region", "`us`"],
    );
    check_error(
        load_file("default-region = 'UK'"),
        &["default-region", "`UK`"],
    );
    check_error(load_file("public-url = 'example.com'"), &["public-url"]);
    let plain = load_file("public-url = 'http://sms.example.com'");
    check_error(plain, &["public-url", "https://", "loopback"]);
    check_error(load_file("log = 'countersign=loud'"), &["log"]);
    check_error(load_file("[queue]\ncapacity = 0"), &["queue.capacity"]);
    for (key, least, most) in [("reserved-percent", 0, 90), ("caller-percent", 1, 100)] {
        let load = |percent: i32| load_file(&format!("[queue]\n{key} = {percent}"));
        assert!(load(least).is_ok() && load(most).is_ok(), "{key}");
        check_error(load(most + 1), &[&format!("queue.{key}")]);
    }
    check_error(
        load_file("[queue]\ncaller-percent = 0"),
        &["queue.caller-percent"],
    );
    assert!(load_file("[store]\nreserve-bytes = 0").is_ok());
    assert!(load_file("[store]\nreserve-bytes = 1099511627776").is_ok());
    check_error(
        load_file("[store]\nreserve-bytes = 1099511627777"),
        &["store.reserve-bytes"],
    );
    check_error(
        load_file("[http]\nbody-bytes-max = 1"),
        &["http.body-bytes-max"],
    );
}

#[test]
fn twilio_is_switched_on_by_its_variables() {
    let environment = Environment::from([
        ("TWILIO_ACCOUNT_SID", "AC1"),
        ("TWILIO_AUTH_TOKEN", "t"),
        ("TWILIO_PHONE_NUMBER", "+15005550006"),
        ("TWILIO_BASE_URL", "http://127.0.0.1:4010"),
    ]);
    let config = load(&flags(), &environment).expect("good");
    let provider = &config.providers[0];
    assert_eq!(provider.name, "twilio");
    assert_eq!(
        provider.component,
        ComponentSource::BuiltIn(provider::BUILT_IN_TWILIO)
    );
    let settings: Vec<_> = provider
        .settings
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(settings, ["account-sid", "base-url", "from"]);
    assert_eq!(provider.credentials[0].0, "auth-token");
    assert!(!format!("{provider:?}").contains("\"t\""));
}

#[test]
fn half_of_twilio_is_an_error_that_names_the_other_half() {
    let some = |set: [(&str, &str); 2]| load(&flags(), &Environment::from(set));
    let account = ("TWILIO_ACCOUNT_SID", "AC1");
    let token = ("TWILIO_AUTH_TOKEN", "t");
    let from = ("TWILIO_PHONE_NUMBER", "+1");
    let service = ("TWILIO_MESSAGING_SERVICE_SID", "MG1");
    check_error(some([account, token]), &["TWILIO_PHONE_NUMBER"]);
    check_error(some([account, from]), &["TWILIO_AUTH_TOKEN missing"]);
    check_error(some([token, service]), &["TWILIO_ACCOUNT_SID missing"]);
    let whole = Environment::from([account, token, service]);
    assert!(load(&flags(), &whole).is_ok());
    let empty = Environment::from([("TWILIO_ACCOUNT_SID", "")]);
    assert!(load(&flags(), &empty).expect("good").providers[0].is_console());
}

fn provider(lines: &str) -> String {
    format!("[[provider]]\nname = 'main'\ncomponent = 'provider-twilio'\n{lines}")
}

#[test]
fn credentials_come_from_variables_and_files_and_with_a_warning_from_the_text() {
    let text = provider("credentials = { auth-token = { env = 'TOKEN' } }");
    let found = load_file_with(&text, Environment::from([("TOKEN", "t1")])).expect("good");
    assert_eq!(found.providers[0].credentials[0].1.expose(), "t1");
    assert!(found.warnings.is_empty());
    check_error(load_file(&text), &["`main`", "TOKEN", "not set"]);

    let secret = file("t2\n");
    let path = secret.path().display();
    let text = provider(&format!(
        "credentials = {{ auth-token = {{ file = '{path}' }} }}"
    ));
    let found = load_file(&text).expect("good");
    assert_eq!(found.providers[0].credentials[0].1.expose(), "t2");

    let found = load_file(&provider("credentials = { auth-token = 't3' }")).expect("good");
    assert_eq!(found.providers[0].credentials[0].1.expose(), "t3");
    assert!(found.warnings[0].contains("auth-token") && !found.warnings[0].contains("t3"));
    for wrong in ["{ x = 'y' }", "{}", "{ env = 'A', file = 'b' }", "5"] {
        let text = provider(&format!("credentials = {{ auth-token = {wrong} }}"));
        assert!(load_file(&text).is_err(), "{wrong}");
    }
}

#[track_caller]
fn check_base_url(url: &str, good: bool) {
    let found = load_file(&provider(&format!("settings = {{ base-url = '{url}' }}")));
    if good {
        found.unwrap_or_else(|error| panic!("{url}: {error}"));
    } else {
        check_error(found, &["`main`", "base-url"]);
    }
}

#[test]
fn plain_http_goes_to_literal_addresses_of_this_network_only() {
    for url in [
        "https://api.example.com",
        "https://api.example.com:8443/v1",
        "http://127.0.0.1:4010",
        "http://10.1.2.3",
        "http://[::1]:4010",
        "http://[fd00::1]:1",
    ] {
        check_base_url(url, true);
    }
    for url in [
        "http://localhost:4010",
        "http://api.example.com",
        "http://8.8.8.8",
        "ftp://127.0.0.1",
        "https://user:password@example.com",
        "https://example.com/?a=b",
        "example.com",
        "",
    ] {
        check_base_url(url, false);
    }
    let text = provider("settings = { base-url = 'http://localhost:1' }");
    check_error(load_file(&text), &["http://127.0.0.1"]);
}

#[test]
fn a_rate_is_a_number_a_second_whole_or_not() {
    let rate = |line: &str| load_file(&provider(line)).map(|config| config.providers[0].rate);
    assert_eq!(rate("").expect("good"), None);
    for (text, value) in [
        ("5", 5.0),
        ("0.5", 0.5),
        ("0.01", 0.01),
        ("10000", 10_000.0),
    ] {
        assert_eq!(rate(&format!("rate = {text}")).expect("good"), Some(value));
    }
    for text in ["0", "0.009", "10000.1", "10001", "nan"] {
        let error = load_file(&provider(&format!("rate = {text}")));
        check_error(error, &["`main`", "rate", "0.01"]);
    }
    assert!(rate("rate = 'fast'").is_err() && rate("rate = -1").is_err());
}

#[test]
fn a_provider_that_is_believed_without_a_signature_is_warned_of() {
    let config = load_file(&provider("")).expect("good");
    assert!(!config.providers[0].unsigned && config.warnings.is_empty());
    let url = "public-url = 'https://sms.example.com'\n";
    let text = url.to_owned() + &provider("unsigned = true");
    let config = load_file(&text).expect("good");
    assert!(config.providers[0].unsigned);
    assert!(config.warnings[0].contains("`main` has unsigned = true"));
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn a_setting_without_effect_is_warned_of_by_its_name() {
    #[track_caller]
    fn check(text: &str, environment: &[(&str, &str)], want: &[&str]) {
        let file = file(text);
        let flags = Flags {
            config: Some(file.path().to_owned()),
            ..flags()
        };
        let config = load(&flags, &Environment::from(environment)).expect("good");
        assert_eq!(config.warnings.len(), want.len(), "{:?}", config.warnings);
        for (warning, want) in config.warnings.iter().zip(want) {
            assert!(warning.contains(want), "{want} is not in: {warning}");
        }
    }
    let main = provider("");
    let two = format!("{main}\n[[provider]]\nname = 'other'\ncomponent = 'provider-console'\n");
    // Twilio's variables are read without providers only, or where one names them.
    let token = ("TWILIO_AUTH_TOKEN", "t");
    let url = ("TWILIO_BASE_URL", "https://example.com");
    check(
        &main,
        &[token, url],
        &["TWILIO_AUTH_TOKEN has no", "TWILIO_BASE_URL has no"],
    );
    let named = provider("credentials = { auth-token = { env = 'TWILIO_AUTH_TOKEN' } }");
    check(&named, &[token], &[]);
    // A callback address of 100 bytes, and of 101.
    let vonage = |letters: usize| {
        let host = format!("{}.example", "v".repeat(letters));
        format!(
            "public-url = 'https://{host}'\n[[provider]]\nname = 'vonage'\ncomponent = 'provider-vonage'\n"
        )
    };
    let letters = 100 - "https://.example/webhooks/vonage".len();
    check(&vonage(letters), &[], &[]);
    check(
        &vonage(letters + 1),
        &[],
        &["the provider `vonage` takes no message"],
    );
    let key = (API_KEY, "0123456789abcdef0123456789abcdef");
    check("open = true", &[key], &["open has no effect"]);
    check("open = true", &[], &[]);
    // Providers and routes.
    let own = provider("concurrency = 2\n[delivery]\nconcurrency = 3");
    check(&own, &[], &["delivery.concurrency has no effect"]);
    check(&provider("[delivery]\nconcurrency = 3"), &[], &[]);
    check(
        &provider("concurrency = 5\n[delivery]\nin-hand = 4"),
        &[],
        &["delivery.in-hand is 4"],
    );
    check(&provider("unsigned = true"), &[], &["without public-url"]);
    let console = "[[provider]]\nname = 'c'\ncomponent = 'provider-console'\n";
    let printing = format!("{console}allow-hosts = []\nunsigned = true");
    check(&printing, &[], &["allow-hosts of", "unsigned of"]);
    let routed = |routes: &str| format!("{two}{routes}");
    check(
        &routed("[[route]]\nproviders = ['main']"),
        &[],
        &["`other` is in no [[route]]"],
    );
    let all = "[[route]]\nproviders = ['main', 'other']\n";
    let india = "[[route]]\ncountry = 'IN'\nproviders = ['main']\n";
    check(
        &routed(&[all, india].concat()),
        &[],
        &["the route 2 has no effect"],
    );
    check(&routed(&[india, all].concat()), &[], &[]);
    check(
        &routed(&[india, india, all].concat()),
        &[],
        &["the route 2 has no effect: the route 1"],
    );
    // Of two limits the one that is reached first.
    check("[otp]\nsends-per-minute = 10", &[], &[]);
    check(
        "[otp]\nsends-per-minute = 11",
        &[],
        &["otp.sends-per-minute (11)"],
    );
    check(
        "[otp]\nmisses-per-day = 14",
        &[],
        &["otp.misses-per-hour (15)"],
    );
    check(
        "[otp]\nvalid-seconds = 120\nsame-code-seconds = 120",
        &[],
        &["same-code-seconds"],
    );
    check("[otp]\nvalid-seconds = 120", &[], &[]);
    check("[limits]\nprovider-wall-ms = 10000", &[], &[]);
    check(
        "[limits]\nprovider-wall-ms = 9999",
        &[],
        &["limits.http-request-ms (10000)"],
    );
    check(
        "[http]\nbody-seconds = 31",
        &[],
        &["http.body-seconds (31)"],
    );
    check(
        "[limits]\nlog-lines = 0\nlog-line-bytes = 100",
        &[],
        &["limits.log-line-bytes has no effect"],
    );
    check("[limits]\nlog-lines = 0", &[], &[]);
}

#[test]
fn hosts_are_handed_on_as_the_operator_grants_them() {
    let hosts = |lines: &str| {
        let config = load_file(&provider(lines)).expect("good");
        config.providers[0].allow_hosts.clone()
    };
    assert_eq!(hosts(""), None);
    let granted = hosts("allow-hosts = ['a.example', '127.0.0.1:1']");
    assert_eq!(
        granted,
        Some(vec!["a.example".to_owned(), "127.0.0.1:1".to_owned()])
    );
}

#[test]
fn limits_are_handed_on_only_where_they_are_set() {
    let config = load_file("[limits]\nservice-time-ms = 500").expect("good");
    assert_eq!(config.services.limits.service_time_ms, Some(500));
    assert_eq!(config.services.limits.runs, None);
    check_error(load_file("[limits]\nruns = 0"), &["limits.runs", "from 1"]);
    check_error(load_file("[limits]\nhttp-requests = 9"), &["from 1 to 8"]);
    let variable = Environment::from([("COUNTERSIGN_LIMITS_RUNS", "3")]);
    assert_eq!(
        load(&flags(), &variable)
            .expect("good")
            .services
            .limits
            .runs,
        Some(3)
    );
}

#[test]
fn names_of_components_and_providers_are_checked() {
    let named = |name: &str, component: &str| {
        load_file(&format!(
            "[[provider]]\nname = '{name}'\ncomponent = '{component}'"
        ))
    };
    assert!(named("a-1", "provider-console").is_ok());
    for name in ["infobip", "twilio", "vonage", "webhook"] {
        let component = format!("provider-{name}");
        let found = named(name, &component).expect("built in");
        assert!(
            crate::services::built_in(&component).is_some(),
            "{component}"
        );
        let source = &found.providers[0].component;
        assert!(matches!(source, ComponentSource::BuiltIn(_)), "{source:?}");
    }
    check_error(
        named("a", "provider-telnyx"),
        &["`from` or `messaging-profile-id`"],
    );
    check_error(
        load_file(&provider("settings = { account-sid = 'AC1' }")),
        &["`from` or `messaging-service-sid`"],
    );
    check_error(
        named("a", "provider-twillio"),
        &["provider-twillio", "provider-twilio"],
    );
    check_error(named("A b", "provider-console"), &["lower-case"]);
    let file = named("a", "my/own.wasm").expect("good");
    let ComponentSource::File(path) = &file.providers[0].component else {
        panic!("not a file");
    };
    assert!(path.is_absolute() && path.ends_with("my/own.wasm"));
    let twice = provider("") + &provider("");
    check_error(load_file(&twice), &["two of that name"]);
    let number = load_file(&provider("settings = { port = 5, dry = true }")).expect("good");
    assert_eq!(number.providers[0].settings[1].1, "5");
}

#[test]
fn routes_name_providers_that_exist() {
    let routed = |lines: &str| load_file(&(provider("") + "[[route]]\n" + lines));
    let config = routed("country = 'IN'\nproviders = ['main']\n[[route]]\nproviders = ['main']");
    let config = config.expect("good");
    assert_eq!(config.routes.len(), 2);
    assert!(config.warnings.is_empty());
    check_error(routed("providers = ['other']"), &["route 1", "`other`"]);
    check_error(routed("providers = []"), &["route 1"]);
    check_error(routed("providers = ['main', 'main']"), &["twice"]);
    check_error(routed("country = 'XX'\nproviders = ['main']"), &["`XX`"]);
    check_error(
        routed("country = 'India'\nproviders = ['main']"),
        &["`India`"],
    );
    check_error(routed("kind = 'spam'\nproviders = ['main']"), &["`spam`"]);
    check_error(
        routed("number-type = 'landline'\nproviders = ['main']"),
        &["landline"],
    );
    for (shares, words) in [
        ("[1, 2]", "2 shares"),
        ("[0]", "above 0"),
        ("[1000001]", "1000000"),
    ] {
        let lines = format!("providers = ['main']\nshares = {shares}");
        check_error(routed(&lines), &["route 1", words]);
    }
    let narrow = "kind = 'marketing'\nnumber-type = 'mobile'\nproviders = ['main']\nshares = [1]";
    let config = routed(narrow).expect("good");
    let route = &config.routes[0];
    assert_eq!(route.priority, Some(countersign_types::Priority::Bulk));
    assert_eq!(
        (route.line, &*route.shares),
        (Some(countersign_types::NumberKind::Mobile), &[1][..])
    );
    assert!(
        config.warnings[0].contains("cannot be sent"),
        "{:?}",
        config.warnings
    );
    let narrow = routed("country = 'IN'\nproviders = ['main']").expect("good");
    assert_eq!(narrow.warnings.len(), 1);
}

#[test]
fn a_key_from_the_environment_must_be_long() {
    let key = |text: &str| load(&flags(), &Environment::from([(API_KEY, text)]));
    assert!(key(&"k".repeat(32)).expect("good").api_key.is_some());
    assert!(key(&"ä".repeat(32)).is_ok());
    check_error(key(&"k".repeat(31)), &[API_KEY, "32"]);
    check_error(key(""), &[API_KEY]);
    check_error(key(&format!("{}\n{}", "k".repeat(32), "k")), &[API_KEY]);
}

#[test]
fn a_token_of_the_environment_is_any_text_and_an_empty_one_is_none() {
    let tokens = |name: &str, text: &str| {
        let config = load(&flags(), &Environment::from([(name, text)])).expect("good");
        (config.admin_token.is_some(), config.metrics_token.is_some())
    };
    assert_eq!(tokens(ADMIN_TOKEN, "x"), (true, false));
    assert_eq!(tokens(METRICS_TOKEN, "x"), (false, true));
    for nothing in ["", "  "] {
        assert_eq!(tokens(ADMIN_TOKEN, nothing), (false, false));
    }
}

#[test]
fn a_token_that_could_be_guessed_is_warned_of_and_not_repeated() {
    for name in [ADMIN_TOKEN, METRICS_TOKEN] {
        let warnings = |text: &str| {
            let config = load(&flags(), &Environment::from([(name, text)]));
            config.expect("good").warnings
        };
        let short = warnings("correct-horse-batte");
        assert_eq!(short.len(), 1, "{short:?}");
        assert!(short[0].starts_with(name) && !short[0].contains("horse"));
        assert_eq!(warnings("correct-horse-batter"), [""; 0]);
    }
}

#[test]
fn a_variable_that_nothing_reads_is_warned_of() {
    let environment = Environment::from([("COUNTERSIGN_LISSTEN", "x"), ("OTHER", "y")]);
    let config = load(&flags(), &environment).expect("good");
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("COUNTERSIGN_LISSTEN"));
}

#[test]
fn folders_in_the_file_are_relative_to_the_file() {
    let file = file("data = 'd'\nkeys = '/k'");
    let flags = Flags {
        config: Some(file.path().to_owned()),
        ..flags()
    };
    let folders = load(&flags, &Environment::from([])).expect("good").folders;
    assert_eq!(
        folders.data,
        file.path().parent().expect("a folder").join("d")
    );
    assert_eq!(folders.keys, Path::new("/k"));
    let variable = Environment::from([("COUNTERSIGN_DATA", "e")]);
    assert_eq!(
        load(&flags, &variable).expect("good").folders.data,
        Path::new("e")
    );
}

#[test]
fn rates_and_prices_are_handed_on_as_the_component_reads_them() {
    let providers = "[[provider]]\nname = 'main'\ncomponent = 'provider-console'\n";
    let load = |text: &str| load_file(&format!("{text}\n{providers}"));
    let config = load(
        "[analytics]\ncurrency = 'EUR'\nrates = { USD = 0.92, GBP = '1.163456789' }
        [analytics.prices.main]\ncurrency = 'USD'\ndefault = 1\nUS = 0.0079\nDE = '0.10'",
    );
    let want = [
        ("currency", "EUR"),
        ("rates", "GBP=1.163456789 USD=0.92"),
        ("prices/main", "USD *=1 DE=0.10 US=0.0079"),
    ];
    let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(config.expect("good").services.analytics, want);
    let default = load("").expect("good").services.analytics;
    assert_eq!(default, [("currency".to_owned(), "USD".to_owned())]);
    for (text, parts) in [
        ("currency = 'usd'", ["analytics.currency", "USD"]),
        ("rates = { EURO = 1 }", ["analytics.rates.EURO", "the file"]),
        ("rates = { EUR = -1 }", ["analytics.rates.EUR", "-1"]),
        (
            "rates = { EUR = '1.1234567891' }",
            ["analytics.rates.EUR", "9 decimals"],
        ),
        (
            "prices.other = { US = 1 }",
            ["analytics.prices.other", "configured"],
        ),
        (
            "prices.main = { XX = 1 }",
            ["analytics.prices.main.XX", "capital letters"],
        ),
        (
            "prices.main = { US = 0.0000001 }",
            ["analytics.prices.main.US", "6 decimals"],
        ),
        (
            "prices.main = { US = 1000000 }",
            ["analytics.prices.main.US", "below a million"],
        ),
        (
            "prices.main = { currency = 'GBP' }",
            ["analytics.prices.main.currency", "a rate"],
        ),
    ] {
        check_error(load(&format!("[analytics]\n{text}")), &parts);
    }
}

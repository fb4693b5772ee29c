use super::*;

fn entry(name: &str, text: &str) -> settings::Template {
    settings::Template {
        name: name.to_owned(),
        text: text.to_owned(),
        locale: None,
        purpose: None,
        kind: None,
        segments_max: None,
    }
}

fn in_language(name: &str, locale: &str, text: &str) -> settings::Template {
    settings::Template {
        locale: Some(locale.to_owned()),
        ..entry(name, text)
    }
}

fn for_purpose(purpose: &str, text: &str) -> settings::Template {
    settings::Template {
        purpose: Some(purpose.to_owned()),
        ..entry("verification", text)
    }
}

#[track_caller]
fn refused(otp: &Otp, entries: &[settings::Template], words: &str) {
    let error = read(otp, entries).expect_err("refused").to_string();
    assert!(error.contains(words), "{error}");
}

#[track_caller]
fn check(name: &str, text: &str, kind: Option<&str>, want: Result<MessageKind, &str>) {
    let entry = settings::Template {
        kind: kind.map(str::to_owned),
        ..entry(name, text)
    };
    match want {
        Ok(kind) => {
            let read = read(&Otp::default(), &[entry]).expect("taken");
            let (template, found) = read.find(name, None).expect("there");
            assert_eq!((template.kind, found), (kind, text));
        }
        Err(words) => refused(&Otp::default(), &[entry], words),
    }
}

#[test]
fn a_template_has_a_name_a_text_and_a_kind() {
    let transactional = Ok(MessageKind::Transactional);
    check(
        "order-1",
        "Order {number}\nis on its way.",
        None,
        transactional,
    );
    check("a", "x", Some("login"), Ok(MessageKind::Login));
    check("a", "x", Some("marketing"), Ok(MessageKind::Marketing));
    check(&"n".repeat(64), &"x".repeat(1_600), None, transactional);
    check(&"n".repeat(65), "x", None, Err("64 lower-case"));
    check("Order", "x", None, Err("64 lower-case"));
    check("a", &"x".repeat(1_601), None, Err("1600 bytes"));
    check("a", "", None, Err("1600 bytes"));
    check("a", "bell \u{7}", None, Err("control"));
    check("a", "a\u{202e}b", None, Err("direction"));
    check("a", "a\u{2028}b", None, Err("control"));
    check("a", "x", Some("urgent"), Err("`urgent`"));
    let twice = [entry("a", "x"), entry("a", "y")];
    refused(&Otp::default(), &twice, "twice");
}

#[test]
fn placeholders_must_be_read_and_filled() {
    check("a", "lonely {", None, Err("no partner"));
    check("a", "{a b}", None, Err("`{a b}`"));
    check("a", "{}", None, Err("`{}`"));
    let transactional = Ok(MessageKind::Transactional);
    check("a", &format!("{{{}}}", "p".repeat(32)), None, transactional);
    check(
        "a",
        &format!("{{{}}}", "p".repeat(33)),
        None,
        Err("1 to 32"),
    );
    let many = |n: usize| (0..n).map(|i| format!("{{p{i}}}")).collect::<String>();
    check("a", &many(16), None, transactional);
    check("a", &many(17), None, Err("16 placeholders"));
}

#[test]
fn codes_come_from_otp_only() {
    check("a", "Your code is {code}", None, Err("/api/otp/send"));
    check("a", "{minutes} minutes", None, Err("/api/otp/send"));
    check("verification", "{code}", None, Err("otp.text"));
}

#[test]
fn whose_pages_a_code_is_for_is_not_for_requests_to_say() {
    let transactional = Ok(MessageKind::Transactional);
    check("a", "{pin}\n@example.com #{pin}", None, transactional);
    check("a", "{pin}\n@{host} #{pin}", None, Err("offers a code"));
    check(
        "a",
        "{pin}\n@a.example #{pin} %{b}",
        None,
        Err("offers a code"),
    );
}

#[test]
fn a_message_has_a_text_for_every_language_and_all_take_the_same_values() {
    let otp = Otp::default();
    let general = entry("a", "Hello {name}");
    let read_ = |more: settings::Template| read(&otp, &[general.clone(), more]);
    let templates = read_(in_language("a", "pt-PT", "Oi {name}")).expect("taken");
    for (locale, text) in [
        (None, "Hello {name}"),
        (Some("pt-AO"), "Oi {name}"),
        (Some("pt-BR"), "Hello {name}"),
        (Some("no tag"), "Hello {name}"),
    ] {
        assert_eq!(templates.find("a", locale).expect("there").1, text);
    }
    assert!(templates.find("b", None).is_none());
    refused(&otp, &[in_language("a", "de", "Hallo")], "without `locale`");
    for (entry, words) in [
        (in_language("a", "de", "Hallo"), "`{name}`"),
        (in_language("a", "de", "Hallo {name} {x}"), "`{x}`"),
        (in_language("a", "german!", "Hallo {name}"), "`german!`"),
        (in_language("a", "", "Hallo {name}"), "language tag"),
        (in_language("a", "de", "{"), "no partner"),
        (
            settings::Template {
                kind: Some("login".to_owned()),
                ..in_language("a", "de", "Hallo {name}")
            },
            "without `locale`",
        ),
        (
            settings::Template {
                purpose: Some("login".to_owned()),
                ..in_language("a", "de", "Hallo {name}")
            },
            "`kind`",
        ),
    ] {
        refused(&otp, &[general.clone(), entry], words);
    }
    let chinese = |locale| in_language("a", locale, "{name}");
    let twice = [general.clone(), chinese("zh-TW"), chinese("zh-Hant-TW")];
    refused(&otp, &twice, "twice");
}

#[test]
fn a_text_with_a_code_is_for_a_language_or_a_purpose_and_takes_nothing_from_a_request() {
    let otp = Otp::default();
    for good in [
        in_language("verification", "de", "Ihr Code: {code}"),
        for_purpose("login", "{code} in {minutes}"),
        for_purpose("enrolment", "{code}"),
        for_purpose("verification", "{code}"),
    ] {
        assert!(read(&otp, &[good]).is_ok());
    }
    for (wrong, words) in [
        (for_purpose("sign-up", "{code}"), "verification, login"),
        (for_purpose("login", "no code"), "must contain `{code}`"),
        (for_purpose("login", "{code} {name}"), "`{name}`"),
        (for_purpose("login", "{code} {"), "no partner"),
        (
            for_purpose("login", &format!("{{code}}{}", "x".repeat(1_600))),
            "1600",
        ),
        (
            settings::Template {
                segments_max: Some(1),
                ..for_purpose("login", "{code}")
            },
            "otp.segments-max",
        ),
    ] {
        refused(&otp, &[wrong], words);
    }
    let sign_up = Otp {
        purposes: Some(vec!["sign-up".to_owned()]),
        ..Otp::default()
    };
    assert!(read(&sign_up, &[for_purpose("sign-up", "{code}")]).is_ok());
    let long = format!("{{code}}{}", "x".repeat(155));
    let short = Otp {
        segments_max: Some(1),
        ..Otp::default()
    };
    refused(&short, &[for_purpose("login", &long)], "gets 2");
    let app = Otp {
        app_hash: Some("FA+9qCX9VSu".to_owned()),
        ..Otp::default()
    };
    refused(&app, &[for_purpose("login", &long)], "140 bytes");
}

#[test]
fn a_message_has_a_bound_of_its_own() {
    let of = |most, text: &str| settings::Template {
        segments_max: Some(most),
        ..entry("a", text)
    };
    let otp = Otp::default();
    let long = format!("{{x}}{}", "x".repeat(161));
    for most in [2, 24] {
        let templates = read(&otp, &[of(most, &long)]).expect("taken");
        let (template, _) = templates.find("a", None).expect("there");
        assert_eq!(template.segments_max.map(u64::from), Some(most));
    }
    refused(&otp, &[of(1, &long)], "2 SMS");
    for wrong in [0, 25, u64::MAX] {
        refused(&otp, &[of(wrong, "x")], "from 1 to 24");
    }
}

#[test]
fn what_costs_and_who_finds_no_text_is_warned_of() {
    let otp = Otp::default();
    let warned = |entries: &[settings::Template]| {
        let templates = read(&otp, entries).expect("taken");
        warnings(&otp, &templates)
    };
    assert!(warned(&[]).is_empty());
    let cyrillic = in_language(
        "verification",
        "ru",
        &format!("{{code}} {}", "ж".repeat(60)),
    );
    assert!(warned(&[cyrillic]).is_empty(), "one SMS in its own letters");
    let odd = format!("Commande n\u{b0} {{number}} {}", "x".repeat(60));
    let odd = [entry("order", &odd)];
    let told = warned(&odd);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("`order`") && told[0].contains("U+00B0"),
        "{told:?}"
    );
    let dear = in_language(
        "verification",
        "fr",
        &format!("{{code}} ê {}", "x".repeat(70)),
    );
    let told = warned(&[dear]);
    let (name, letter) = (
        "`verification` (locale `fr`)",
        "line 1, character 8: write `e`",
    );
    assert!(
        told[0].contains(name) && told[0].contains(letter),
        "{told:?}"
    );
    let region = in_language("verification", "pt-BR", "{code}");
    let told = warned(std::slice::from_ref(&region));
    assert!(told[0].contains("locale `pt`"), "{told:?}");
    assert!(warned(&[region, in_language("verification", "pt", "{code}")]).is_empty());
    assert!(warned(&[in_language("verification", "en-GB", "{code}")]).is_empty());
}

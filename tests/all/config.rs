//! Settings: which of three sources wins, and what is refused at start.

use countersign_tests::{FakeTwilio, Server, phone};

#[tokio::test]
async fn a_flag_beats_the_environment_beats_the_file() {
    // All of 127.0.0.0/8 is loopback, so the address served tells which source was heard.
    let file = "listen = \"127.0.0.4:0\"\n";
    let server = Server::builder()
        .console()
        .no_listen()
        .config(file)
        .start()
        .await;
    assert_eq!(server.address().ip().to_string(), "127.0.0.4");
    let server = Server::builder()
        .console()
        .no_listen()
        .config(file)
        .env("COUNTERSIGN_LISTEN", "127.0.0.3:0")
        .start()
        .await;
    assert_eq!(server.address().ip().to_string(), "127.0.0.3");
    let server = Server::builder()
        .console()
        .listen("127.0.0.2:0")
        .config(file)
        .env("COUNTERSIGN_LISTEN", "127.0.0.3:0")
        .start()
        .await;
    assert_eq!(server.address().ip().to_string(), "127.0.0.2");
}

#[tokio::test]
async fn an_unknown_key_of_the_file_is_named() {
    let refused = Server::builder()
        .console()
        .config("listen-adress = \"127.0.0.1:0\"\n")
        .finish()
        .await;
    refused.expect_refusal(&["listen-adress"]);
}

#[tokio::test]
async fn a_file_that_is_no_toml_is_refused_with_its_place() {
    let builder = Server::builder().console().config("listen = \n");
    let path = builder
        .home()
        .join("countersign.toml")
        .display()
        .to_string();
    builder.finish().await.expect_refusal(&[&path]);
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_named() {
    let refused = Server::builder()
        .console()
        .config("listen = 8080\n")
        .finish()
        .await;
    refused.expect_refusal(&["listen"]);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let refused = Server::builder()
        .console()
        .arg("--config")
        .arg("no-such-file.toml")
        .finish()
        .await;
    refused.expect_refusal(&["no-such-file.toml"]);
}

#[tokio::test]
async fn a_domain_that_is_no_bare_host_name_is_named() {
    for wrong in ["https://example.com", "example.com:8443", "Example.com"] {
        let builder = Server::builder().console();
        let builder = builder.env("COUNTERSIGN_OTP_DOMAIN", wrong);
        let refused = builder.finish().await;
        refused.expect_refusal(&[
            "otp.domain",
            "bare host name",
            "COUNTERSIGN_OTP_DOMAIN",
            wrong,
        ]);
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_named() {
    let refused = Server::builder()
        .console()
        .listen("127.0.0.1:99999")
        .finish()
        .await;
    refused.expect_refusal(&["127.0.0.1:99999"]);
}

#[tokio::test]
async fn an_unknown_flag_is_named() {
    let refused = Server::builder()
        .console()
        .arg("--no-such-flag")
        .finish()
        .await;
    refused.expect_refusal(&["--no-such-flag"]);
}

#[tokio::test]
async fn a_plain_http_twilio_must_be_a_literal_address() {
    let twilio = FakeTwilio::start().await;
    let port = twilio.base_url().rsplit(':').next().unwrap().to_owned();
    for host in ["localhost", "twilio.internal", "api.twilio.com"] {
        let refused = Server::builder()
            .twilio_at(&format!("http://{host}:{port}"))
            .finish()
            .await;
        // With help: what to write instead.
        refused.expect_refusal(&["TWILIO_BASE_URL", host, "127.0.0.1"]);
    }
    assert!(twilio.requests().is_empty());
}

#[tokio::test]
async fn a_twilio_base_url_that_is_none_is_refused() {
    for url in ["nonsense", "ftp://127.0.0.1:1", "127.0.0.1:4010"] {
        let refused = Server::builder().twilio_at(url).finish().await;
        refused.expect_refusal(&["TWILIO_BASE_URL"]);
    }
}

#[tokio::test]
async fn a_twilio_base_url_may_end_in_a_slash() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio_at(&format!("{}/", twilio.base_url()))
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    assert_eq!(twilio.next_message().await.to, phone(1));
}

#[tokio::test]
async fn half_of_twilios_variables_is_no_twilio() {
    // Printing to a terminal that nobody looks at would be the worst way to find out.
    let twilio = FakeTwilio::start().await;
    let refused = Server::builder()
        .twilio(&twilio)
        .env("TWILIO_AUTH_TOKEN", "")
        .finish()
        .await;
    refused.expect_refusal(&["TWILIO_AUTH_TOKEN"]);
}

#[tokio::test]
async fn a_log_filter_that_would_be_silent_by_mistake_is_refused() {
    for (filter, word) in [
        ("inof", "`inof` is no level"),
        (
            "countersing=debug",
            "`countersing` is no part of the program",
        ),
        ("countersign=loud", "COUNTERSIGN_LOG"),
    ] {
        let server = Server::builder().console().env("COUNTERSIGN_LOG", filter);
        server
            .finish()
            .await
            .expect_refusal(&[word, "must be a filter"]);
    }
}

#[tokio::test]
async fn a_setting_without_effect_is_told_at_the_start_and_by_the_doctor() {
    let toml = "[otp]\nsends-per-minute = 60\n";
    let server = Server::builder().console().config(toml).start().await;
    let want = "otp.sends-per-minute (60) has no effect";
    let told = |text: &str| text.contains(want).then_some(());
    let told = server.stderr().find("a setting without effect", told);
    assert_eq!(told.await, Some(()));
    let file = server.setup().home().join("countersign.toml");
    let args = ["doctor", "--config", file.to_str().unwrap()];
    let doctor = server.run(&args).await.expect_success();
    assert!(doctor.stdout.contains(want), "{doctor:?}");
}

#[tokio::test]
async fn the_log_level_is_a_setting() {
    let mut loud = Server::builder()
        .console()
        .env("COUNTERSIGN_LOG", "trace")
        .start()
        .await;
    let mut quiet = Server::builder()
        .console()
        .env("COUNTERSIGN_LOG", "error")
        .start()
        .await;
    assert!(loud.terminate().await.success());
    assert!(quiet.terminate().await.success());
    assert!(loud.stderr().bytes().len() > quiet.stderr().bytes().len());
}

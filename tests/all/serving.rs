//! Being there: the line, the health checks, the admin door, one server to a folder.

use std::time::Duration;

use countersign_tests::{FakeTwilio, Reply, Server, phone};
use hyper::Method;

#[tokio::test]
async fn the_line_says_where_calls_are_served() {
    let server = Server::builder().console().start().await;
    let line = format!("listening on http://{}\n", server.address());
    let printed = server.stdout().text();
    assert!(
        printed.starts_with(&line) || printed.contains(&format!("\n{line}")),
        "{printed:?}"
    );
    assert_eq!(printed.matches("listening on").count(), 1, "{printed:?}");
    // Not a moment later: the first call after the line is served.
    server.get("/readyz").await.expect_status(200);
}

#[tokio::test]
async fn health_checks_need_no_key() {
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    let stranger = server.without_key();
    for path in ["/healthz", "/readyz"] {
        stranger.get(path).await.expect_status(200);
        let head = stranger.request(Method::HEAD, path, &[], "").await.unwrap();
        assert_eq!(head.status, 200, "HEAD {path}");
        stranger
            .request(Method::POST, path, &[], "")
            .await
            .unwrap()
            .expect_problem(405);
    }
}

#[tokio::test]
async fn a_provider_that_is_away_does_not_make_the_server_sick() {
    let twilio = FakeTwilio::start_refusing();
    let server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    server.expect_healthy().await;
}

#[tokio::test]
async fn without_an_admin_token_the_admin_door_is_shut() {
    let server = Server::builder().console().start().await;
    for client in [
        server.client(),
        server.without_key(),
        server.with_key("anything"),
    ] {
        for path in ["/admin/x", "/admin/components"] {
            client.get(path).await.expect_problem(403);
            client
                .request(Method::PUT, path, &[], "x")
                .await
                .unwrap()
                .expect_problem(403);
        }
    }
}

#[tokio::test]
async fn with_an_admin_token_only_its_bearer_enters() {
    let server = Server::builder()
        .console()
        .env("COUNTERSIGN_ADMIN_TOKEN", "t")
        .start()
        .await;
    for client in [
        server.client(),
        server.without_key(),
        server.with_key("T"),
        server.with_key("tt"),
    ] {
        let answer = client.get("/admin/x").await;
        assert!([401, 403].contains(&answer.status), "{answer:?}");
        answer.clone().expect_problem(answer.status);
    }
    server
        .with_key("t")
        .get("/admin/x")
        .await
        .expect_problem(404);
    // The token opens the admin door, not the API.
    server
        .with_key("t")
        .send(&phone(1))
        .await
        .expect_problem(401);
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let server = Server::builder().console().start().await;
    let close = [("Connection", "close")];
    let mut pipeline = Vec::new();
    for _ in 0..10 {
        pipeline.extend(server.raw_request("GET", "/healthz", &[], b""));
    }
    pipeline.extend(server.raw_request("GET", "/readyz", &close, b""));
    server
        .raw(&pipeline)
        .await
        .expect("answers")
        .expect_status(200);
    server.expect_healthy().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let server = Server::builder().console().start().await;
    let refused = Server::builder()
        .console()
        .data(server.data())
        .finish()
        .await;
    let folder = server.data().display().to_string();
    let where_it_serves = format!("serves it on http://{}", server.address());
    refused.expect_refusal(&[&folder, &where_it_serves, "stop that one first"]);
    server.expect_healthy().await;
}

#[tokio::test]
async fn a_server_that_is_ending_is_told_to_the_next_and_a_second_signal_ends_it_at_once() {
    let twilio = FakeTwilio::start().await;
    twilio.always(Reply::Hang);
    // It stops for as long as this takes.
    let server = Server::builder().env("COUNTERSIGN_HTTP_STOP_SECONDS", "3600");
    let mut server = server.twilio(&twilio).start().await;
    server.send(&phone(1)).await.expect_success();
    twilio.wait_for_requests_to(&phone(1), 1).await;
    server.ask_to_stop();
    let said = |words: &'static str| move |text: &str| text.contains(words).then_some(());
    let stderr = server.stderr().clone();
    let stopping = stderr.find("a stop", said("stopping: no new connections"));
    assert_eq!(stopping.await, Some(()));
    let next = Server::builder().twilio(&twilio).data(server.data());
    let folder = server.data().display().to_string();
    let refused = next.finish().await;
    refused.expect_refusal(&[&folder, "was told to stop, has not ended yet"]);
    // What comes with the first signal counts as the same, so more than one is sent.
    let ended = stderr.find("an end", said("stopped at once, at a second signal"));
    let impatient = async {
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            server.ask_to_stop();
        }
    };
    tokio::select! {
        ended = ended => assert_eq!(ended, Some(()), "{}", stderr.text()),
        () = impatient => {}
    }
    assert!(server.stopped().await.success());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = Server::builder().console().start().await;
    let taken = server.address().to_string();
    let refused = Server::builder().console().listen(&taken).finish().await;
    refused.expect_refusal(&[&taken]);
    server.expect_healthy().await;
}

#[tokio::test]
async fn no_subcommand_serves() {
    let server = Server::builder().console().no_subcommand().start().await;
    server.send(&phone(1)).await.expect_success();
    let code = server.console_code(1).await;
    server.verify(&phone(1), &code).await.expect_success();
    assert!(
        server.data().is_dir(),
        "COUNTERSIGN_DATA is not where the data is"
    );
}

#[tokio::test]
async fn help_and_version_are_there() {
    let builder = Server::builder();
    let help = builder.run(&["--help"]).await.expect_success();
    for word in ["serve", "keys"] {
        assert!(help.stdout.contains(word), "{}", help.stdout);
    }
    let help = builder.run(&["serve", "--help"]).await.expect_success();
    for word in [
        "--listen",
        "--data",
        "--config",
        "--open",
        "COUNTERSIGN_LISTEN",
        "COUNTERSIGN_DATA",
    ] {
        assert!(help.stdout.contains(word), "no {word}:\n{}", help.stdout);
    }
    let version = builder.run(&["--version"]).await.expect_success();
    assert!(
        version.stdout.contains(env!("CARGO_PKG_VERSION")),
        "{}",
        version.stdout
    );
    assert!(!builder.run(&["no-such-command"]).await.status.success());
}

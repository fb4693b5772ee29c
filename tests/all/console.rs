//! With no provider configured, messages are printed to the terminal.

use countersign_tests::{Server, phone};

#[tokio::test]
async fn without_a_provider_the_message_is_printed_to_standard_output() {
    let server = Server::builder().console().start().await;
    server.send(&phone(1)).await.expect_success();
    let code = server.console_code(1).await;
    let whole = |text: &str| {
        text.contains("Valid for 10 minutes.")
            .then(|| text.to_owned())
    };
    let printed = server.stdout().find("a whole message", whole);
    let printed = printed.await.expect("the server runs");
    assert!(
        printed.contains(&format!("Your verification code is: {code}")),
        "{printed}"
    );
    assert!(
        printed.contains(&phone(1)),
        "whom it is for is not said: {printed}"
    );
    server.verify(&phone(1), &code).await.expect_success();
}

#[tokio::test]
async fn a_printed_message_is_in_no_log() {
    let mut server = Server::builder()
        .console()
        .env("COUNTERSIGN_LOG", "trace")
        .start()
        .await;
    server.send(&phone(1)).await.expect_success();
    let code = server.console_code(1).await;
    server.verify(&phone(1), &code).await.expect_success();
    assert!(server.terminate().await.success());
    let log = server.stderr().text();
    assert!(!log.is_empty(), "there is no log at trace level");
    assert!(!log.contains(&format!("is: {code}")), "{log}");
    assert!(!log.contains(&phone(1)[1..]), "{log}");
}

#[tokio::test]
async fn the_lines_to_try_next_are_for_a_terminal_only() {
    let mut server = Server::builder().console().no_key().start().await;
    server.send(&phone(1)).await.expect_success();
    server.console_code(1).await;
    assert!(server.terminate().await.success());
    assert!(
        !server.stdout().text().contains("curl"),
        "{}",
        server.stdout().text()
    );
    assert!(
        !server.stderr().text().contains("curl"),
        "{}",
        server.stderr().text()
    );
}

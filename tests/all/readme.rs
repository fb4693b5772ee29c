//! The README's own lines, as a newcomer types them.

use countersign_tests::{Answer, Server};
use hyper::Method;
use serde_json::Value;

/// The part of the README from one of its headings to the next of that kind or a larger one.
fn section(heading: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, from) = text.split_once(&format!("# {heading}\n")).unwrap();
    from.split("\n## ")
        .next()
        .unwrap()
        .split("\n### ")
        .next()
        .unwrap()
        .to_owned()
}

/// What stands between the quotes after ` -d `.
fn body(line: &str) -> Value {
    let (_, rest) = line.split_once(" -d '").unwrap();
    serde_json::from_str(rest.split('\'').next().unwrap()).unwrap()
}

/// What stands between the quotes after each ` -H `.
fn headers(line: &str) -> Vec<(&str, &str)> {
    let given = line.split(" -H '").skip(1);
    given
        .map(|rest| {
            let header = rest.split('\'').next().unwrap();
            header.split_once(": ").unwrap()
        })
        .collect()
}

/// The `curl` lines of a section, each with the answer that is written below it.
fn curls(text: &str) -> Vec<(&str, Value)> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(line) = line.strip_prefix("$ curl http://127.0.0.1:8080") {
            let answer = serde_json::from_str(lines.next().unwrap()).unwrap();
            found.push((line, answer));
        }
    }
    found
}

/// Types the line, with `body` where it has one, and compares the answer with the written one.
async fn type_in(server: &Server, line: &str, body: Option<&Value>, written: &Value) -> Answer {
    let path = line.split(' ').next().unwrap();
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let bytes = body.map_or_else(String::new, Value::to_string);
    let answer = server
        .request(method, path, &headers(line), bytes)
        .await
        .unwrap();
    let keys = |value: &Value| {
        let object = value.as_object().unwrap();
        object.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&answer.json()), keys(written), "{line}");
    for (name, value) in written.as_object().unwrap() {
        // Times and names of messages are each run's own.
        if !matches!(name.as_str(), "expiresAt" | "messageId" | "id") {
            assert_eq!(answer.json()[name], *value, "{line}");
        }
    }
    answer
}

#[tokio::test]
async fn the_curl_lines_answer_as_written() {
    let text = section("Try it");
    let written_code = text
        .lines()
        .find_map(|line| line.strip_prefix("Your verification code is: "))
        .unwrap();
    let server = Server::builder().console().no_key().start().await;
    let mut code = String::new();
    let lines = curls(&text);
    assert!(lines.len() >= 4, "the README has its lines");
    for (line, written) in lines {
        let mut asked = body(line);
        if asked["code"] == *written_code {
            asked["code"] = Value::from(code.clone());
        }
        type_in(&server, line, Some(&asked), &written).await;
        if line.starts_with("/api/otp/send ") {
            code = server.console_code(1).await;
        }
    }
}

#[tokio::test]
async fn the_lines_about_asking_again_send_one_message() {
    let text = section("Asking again");
    let lines = curls(&text);
    let server = Server::builder().console().no_key().start().await;
    let mut answers = Vec::new();
    for (line, written) in &lines {
        answers.push(type_in(&server, line, Some(&body(line)), written).await);
    }
    let [first, second] = answers.as_slice() else {
        panic!("two lines, not {}", answers.len());
    };
    assert_eq!(first.body, second.body);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn the_lines_about_other_messages_send_one() {
    let text = section("Other messages");
    let (_, config) = text.split_once("```toml\n").unwrap();
    let config = config.split("```").next().unwrap();
    let server = Server::builder().console().no_key().config(config);
    let server = server.start().await;
    let lines = curls(&text);
    let [(line, written)] = lines.as_slice() else {
        panic!("one line, not {}", lines.len());
    };
    let answer = type_in(&server, line, Some(&body(line)), written).await;
    answer.expect_status(202);
    let printed = "Your order 1207 is on its way and arrives tomorrow.";
    let find = |text: &str| text.contains(printed).then_some(());
    let found = server.stdout().find("message on standard output", find);
    found.await.expect("the console shows it");
}

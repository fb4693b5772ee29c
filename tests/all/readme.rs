//! The README's own lines, as a newcomer types them.

use countersign_tests::Server;
use serde_json::Value;

/// The part of the README between two of its headings.
fn section(heading: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, from) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    from.split("\n## ").next().unwrap().to_owned()
}

/// What stands between the quotes after ` -d `.
fn body(line: &str) -> Value {
    let (_, rest) = line.split_once(" -d '").unwrap();
    serde_json::from_str(rest.split('\'').next().unwrap()).unwrap()
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
    let mut lines = text.lines();
    let mut typed = 0;
    while let Some(line) = lines.next() {
        let Some(line) = line.strip_prefix("$ curl http://127.0.0.1:8080") else {
            continue;
        };
        typed += 1;
        assert!(
            line.contains("-H 'Content-Type: application/json'"),
            "{line}"
        );
        let path = line.split(' ').next().unwrap();
        let mut asked = body(line);
        if asked["code"] == *written_code {
            asked["code"] = Value::from(code.clone());
        }
        let answer = server.post(path, &asked).await;
        let written: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&answer.json()), keys(&written), "{line}");
        for (name, value) in written.as_object().unwrap() {
            // Times and names of messages are each run's own.
            if !matches!(name.as_str(), "expiresAt" | "messageId") {
                assert_eq!(answer.json()[name], *value, "{line}");
            }
        }
        if path.ends_with("/send") {
            code = server.console_code(1).await;
        }
    }
    assert!(typed >= 4, "the README has its lines");
}

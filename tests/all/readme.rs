//! The README's own lines, as a newcomer types them.

use std::collections::BTreeMap;

use countersign_tests::{Answer, FakeTwilio, Finished, Server, phone, totp};
use hyper::Method;
use serde_json::Value;

use crate::messages::story_until;
use crate::queue::{die, wait_for_dead};

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
            let answer = lines.next().unwrap();
            let answer =
                serde_json::from_str(answer).unwrap_or_else(|_| panic!("{line}: {answer}"));
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
        // Times, names of messages and secrets are each run's own.
        if name == "backupCodes" {
            let count = |codes: &Value| codes.as_array().unwrap().len();
            assert_eq!(count(&answer.json()[name]), count(value), "{line}");
        } else if !OWN.contains(&name.as_str()) {
            assert_eq!(answer.json()[name], *value, "{line}");
        }
    }
    answer
}

/// What is different in each run.
const OWN: [&str; 8] = [
    "expiresAt",
    "messageId",
    "id",
    "proof",
    "secret",
    "otpauthUri",
    "qrSvg",
    "token",
];

/// A reader who types the lines of a section one after the other, with what the answers before have
/// brought in place of what is written.
struct Reader {
    server: Server,
    /// What stands for what.
    known: BTreeMap<String, String>,
    codes: usize,
}

impl Reader {
    fn new(server: Server) -> Reader {
        Reader {
            server,
            known: BTreeMap::new(),
            codes: 0,
        }
    }

    async fn type_all(&mut self, text: &str) -> usize {
        let lines = curls(text);
        for (line, written) in &lines {
            self.type_one(line, written).await;
        }
        lines.len()
    }

    async fn type_one(&mut self, line: &str, written: &Value) {
        let asked = line.contains(" -d '").then(|| body(line));
        let code = asked.as_ref().and_then(|asked| asked["code"].as_str());
        if let Some(code) = code
            && !self.known.contains_key(code)
        {
            let shown = match self.known.get("the app's secret") {
                Some(secret) if line.starts_with("/api/2fa/totp/") => totp(secret, 0),
                _ => self.server.console_code(self.codes).await,
            };
            self.known.insert(code.to_owned(), shown);
        }
        let mut filled = line.to_owned();
        for (written, actual) in &self.known {
            filled = filled.replace(written, actual);
        }
        let asked = filled.contains(" -d '").then(|| body(&filled));
        let answer = type_in(&self.server, &filled, asked.as_ref(), written).await;
        let path = line.split(' ').next().unwrap();
        if ["/api/2fa/enable", "/api/login/2fa/send"].contains(&path) {
            self.codes += 1;
        }
        let answer = answer.json();
        for name in ["proof", "token"] {
            if let (Some(written), Some(actual)) = (written[name].as_str(), answer[name].as_str()) {
                self.known.insert(written.to_owned(), actual.to_owned());
            }
        }
        if let Some(secret) = answer["secret"].as_str() {
            self.known
                .insert("the app's secret".to_owned(), secret.to_owned());
        }
        let codes = (
            written["backupCodes"].as_array(),
            answer["backupCodes"].as_array(),
        );
        if let (Some(written), Some(actual)) = codes {
            let text = |code: &Value| code.as_str().unwrap().to_owned();
            self.known
                .extend(written.iter().map(text).zip(actual.iter().map(text)));
        }
    }
}

#[tokio::test]
async fn the_lines_about_two_factor_answer_as_written() {
    let server = Server::builder().console().no_key().start().await;
    let mut reader = Reader::new(server);
    let typed = reader.type_all(&section("Two-factor")).await;
    assert!(typed >= 11, "the README has its lines: {typed}");
    expect_kinds_explained(&reader.server, "user-1").await;
}

/// Whatever stands in a user's trail is explained, each kind with its attributes.
async fn expect_kinds_explained(server: &Server, id: &str) {
    let text = section("Users");
    let trail = server.get(&format!("/api/audit?user={id}&limit=200")).await;
    let trail = trail.expect_status(200).json();
    let entries = trail["entries"].as_array().unwrap();
    assert!(!entries.is_empty(), "{trail}");
    for entry in entries {
        let kind = entry["kind"].as_str().unwrap();
        let row = text.lines().find(|line| {
            let is_row = line.starts_with("| `");
            is_row && line.contains(&format!("`{kind}`"))
        });
        assert!(row.is_some(), "{kind} is not explained");
        for name in entry["attributes"].as_object().unwrap().keys() {
            assert!(text.contains(&format!("`{name}`")), "{name} is not");
        }
    }
}

#[tokio::test]
async fn the_lines_about_tokens_answer_as_written() {
    let server = Server::builder().console().no_key().start().await;
    let mut reader = Reader::new(server);
    assert_eq!(reader.type_all(&section("Tokens and proofs")).await, 2);
    // What is said of the proof is what it says.
    let text = section("Tokens and proofs");
    for word in ["`sub`", "`jti`", "`amr`", "countersign-proof+jwt", "EdDSA"] {
        assert!(text.contains(word), "{word} is not there");
    }
}

#[tokio::test]
async fn the_lines_about_users_do_what_they_say_with_a_server_and_without_one() {
    let text = section("Users");
    let lines = commands(&text);
    let names: Vec<_> = lines.iter().map(|(words, _)| words.join(" ")).collect();
    let want = [
        "users show ID",
        "users unlock ID",
        "users reset ID",
        "users delete ID",
    ];
    assert_eq!(names, want);
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    for (n, id) in ["user-1", "user-2"].into_iter().enumerate() {
        server.user(id).enrol(&twilio, &phone(n)).await;
    }
    for (running, id) in [(true, "user-1"), (false, "user-2")] {
        if !running {
            assert!(server.terminate().await.success());
        }
        for (words, _) in &lines[..3] {
            let [people, program] = type_command(&server, words, &[("ID", id)]).await;
            people.expect_success();
            program.expect_success().json();
        }
        // The second time there is nothing left to delete but the trail.
        let [people, _] = type_command(&server, &lines[3].0, &[("ID", id)]).await;
        people.expect_success();
        let [people, _] = type_command(&server, &lines[0].0, &[("ID", id)]).await;
        let shown = people.expect_success().stdout;
        assert!(shown.starts_with("factors       none\n"), "{shown}");
        if running {
            expect_kinds_explained(&server, id).await;
        }
    }
}

#[tokio::test]
async fn the_lines_about_moving_in_move_users_in() {
    let text = section("Moving in");
    let lines = commands(&text);
    let [(import, _)] = lines.as_slice() else {
        panic!("one line, not {}", lines.len());
    };
    let twilio = FakeTwilio::start().await;
    let server = Server::start(&twilio).await;
    // Hashes are cut short there.
    let hash = "$2b$04$vX2W21OI69Alv1KLW8Nc0e6gLxASH9V2V6D14yqstD2NBxFgOBa5u";
    let users: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("{\"user\""))
        .map(|line| line.replace("$2b$10$…", hash) + "\n")
        .collect();
    assert_eq!(users.len(), 2);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("users");
    std::fs::write(&file, users.concat()).unwrap();
    let fill = [("FILE", file.to_str().unwrap())];
    let [people, program] = type_command(&server, import, &fill).await;
    let said = people.expect_success().stdout;
    assert!(said.starts_with("2 users were moved in,"), "{said}");
    assert_eq!(program.expect_success().json()["present"], 2);
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

/// Times and ids are each run's own.
fn without_times_and_ids(value: &Value) -> Value {
    let is_id = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match value {
        Value::Object(object) => {
            let members = object.iter();
            let members = members.map(|(name, value)| (name.clone(), without_times_and_ids(value)));
            Value::Object(members.collect())
        }
        Value::Array(values) => values.iter().map(without_times_and_ids).collect(),
        Value::String(text) if is_id(text) => "ID".into(),
        Value::String(text) if text.len() == 20 && text.ends_with('Z') => "TIME".into(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn the_line_that_asks_what_became_of_a_message_answers_as_written() {
    let before = section("Other messages");
    let (_, config) = before.split_once("```toml\n").unwrap();
    let config = config.split("```").next().unwrap();
    let server = Server::builder().console().no_key().config(config);
    let server = server.start().await;
    let (line, written) = curls(&before)[0].clone();
    let sent = type_in(&server, line, Some(&body(line)), &written).await;
    let written_id = written["id"].as_str().unwrap();
    let id = sent.json()["id"].as_str().unwrap().to_owned();

    let text = section("What became of a message");
    let lines = curls(&text);
    let [(line, written)] = lines.as_slice() else {
        panic!("one line, not {}", lines.len());
    };
    // It is the message of the line before, under the id that was answered there.
    assert!(line.contains(written_id), "{line}");
    story_until(&server, &id, "sent").await;
    let answer = server.get(&line.replace(written_id, &id)).await;
    assert_eq!(
        without_times_and_ids(&answer.expect_status(200).json()),
        without_times_and_ids(written)
    );
}

/// The `countersign` lines of a section as arguments, without what is explained behind `#`.
fn commands(text: &str) -> Vec<(Vec<&str>, &str)> {
    let lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix("countersign ")?;
        Some(line.split_once('#').unwrap_or((line, "")))
    });
    lines
        .map(|(line, explained)| (line.split_whitespace().collect(), explained.trim()))
        .collect()
}

/// Types a line as it stands with its placeholders filled, for people and for programs.
async fn type_command(server: &Server, words: &[&str], fill: &[(&str, &str)]) -> [Finished; 2] {
    let fill = |word: &&str| {
        let known = fill.iter().find(|(name, _)| name == word);
        known.map_or((*word).to_owned(), |(_, value)| (*value).to_owned())
    };
    let words: Vec<String> = words.iter().map(fill).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    let for_people = server.run(&words).await;
    words.push("--json");
    [for_people, server.run(&words).await]
}

#[tokio::test]
async fn the_lines_about_the_queue_do_what_they_say_with_a_server_and_without_one() {
    let text = section("The queue, and what failed");
    let lines = commands(&text);
    let names: Vec<_> = lines.iter().map(|(words, _)| words.join(" ")).collect();
    assert_eq!(names, ["queue", "queue dead [ID]", "queue replay ID"]);
    let [(queue, _), (dead, _), (replay, or)] = lines.as_slice() else {
        panic!("three lines");
    };
    let (_, all) = or.split_once("or ").unwrap();
    let twilio = FakeTwilio::start().await;
    let mut server = crate::queue::start(&twilio).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(die(&twilio, &server, &phone(n)).await);
    }
    wait_for_dead(&server.with_key("t"), 6).await;
    for running in [true, false] {
        if !running {
            assert!(server.terminate().await.success());
        }
        let [people, program] = type_command(&server, queue, &[]).await;
        let program = program.expect_success().json();
        let left = program["dead"].as_u64().unwrap();
        assert_eq!(left, ids.len() as u64, "{program}");
        let said = people.expect_success().stdout;
        assert!(said.contains(&format!("dead      {left}\n")), "{said}");

        let [people, program] = type_command(&server, &dead[..2], &[]).await;
        let letters = program.expect_success().json();
        assert_eq!(letters["letters"].as_array().unwrap().len(), ids.len());
        assert!(people.expect_success().stdout.contains(&ids[0]));
        let [people, program] = type_command(&server, dead, &[("[ID]", &ids[0])]).await;
        assert_eq!(program.expect_success().json()["id"], ids[0]);
        assert!(people.expect_success().stdout.contains("\"failed\""));

        let id = ids.remove(0);
        let [people, again] = type_command(&server, replay, &[("ID", &id)]).await;
        let said = people.expect_success().stdout;
        assert_eq!(said, format!("The message {id} waits again.\n"));
        // The line for programs meets a message that is not dead any more.
        again.expect_refusal(&["no dead message"]);
    }
    let count = ids.len();
    let [people, program] = type_command(&server, replay, &[("ID", all)]).await;
    let said = people.expect_success().stdout;
    assert_eq!(said, format!("{count} messages wait again.\n"));
    let program = program.expect_success().json();
    assert_eq!(program["replayed"], serde_json::json!([]));
}

#[tokio::test]
async fn the_lines_about_the_data_do_what_they_say() {
    let text = section("Data");
    let lines = commands(&text);
    let names: Vec<_> = lines.iter().map(|(words, _)| words.join(" ")).collect();
    let want = [
        "backup FILE",
        "restore FILE --data DIR",
        "keyring rotate",
        "doctor",
    ];
    assert_eq!(names, want);
    let twilio = FakeTwilio::start().await;
    let mut server = Server::start(&twilio).await;
    server.send(&phone(1)).await.expect_success();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("backup");
    let restored = home.path().join("restored");
    let fill = [
        ("FILE", file.to_str().unwrap()),
        ("DIR", restored.to_str().unwrap()),
    ];
    let run = async |server: &Server, at: usize| {
        let [people, program] = type_command(server, &lines[at].0, &fill).await;
        people.expect_success();
        program
    };
    // The file is new: a second backup into it is refused, and so is a second restore.
    run(&server, 0).await.expect_refusal(&["backup"]);
    run(&server, 1).await.expect_refusal(&["restored"]);
    assert!(restored.join("store").exists());
    let rotated = run(&server, 2).await.expect_success().json();
    assert_eq!(rotated["inUse"], true);
    let checked = run(&server, 3).await.expect_success().json();
    assert_eq!(checked["errors"], 0, "{checked}");
    assert!(server.terminate().await.success());
}

/// What a provider may call and has to offer stands in its guide, as the WIT names it.
#[test]
fn the_guide_for_providers_names_every_function_and_bound_that_they_need() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let guide = read("docs/components.md");
    let (_, guide) = guide
        .split_once("\n## Writing a provider component\n")
        .unwrap();
    let mut functions = 0;
    for interface in ["sender", "signatures", "http", "settings", "log"] {
        let wit = read(&format!("wit/provider/0.1/{interface}.wit"));
        let names = wit
            .lines()
            .filter_map(|line| line.trim().split_once(": func("));
        for (name, _) in names {
            let is_named =
                guide.contains(&format!("`{name}`")) || guide.contains(&format!("`{name}("));
            assert!(is_named, "the guide does not name `{name}` of {interface}");
            functions += 1;
        }
    }
    assert!(functions >= 9, "only {functions} functions were found");
    for fact in [
        "`fetch-status` | `supported`",
        "`failover` = `allowed`",
        "`unsigned = true`",
        "`unknown-outcome`",
    ] {
        assert!(guide.contains(fact), "the guide lacks {fact}");
    }
}

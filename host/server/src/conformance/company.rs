//! A server on loopback that plays a company: it answers, or does what goes wrong.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// More than the host lets a component send.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// After it somebody who has stopped in the middle of a request is left alone.
const READING_MAX: Duration = Duration::from_secs(30);

/// What the company does with a message.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer(Answer),
    /// It takes the request and says nothing.
    Silence,
    /// It takes the request and hangs up.
    HangUp,
    /// It hangs up in the middle of its answer.
    Cut(Answer),
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} -\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // Each request comes on a connection of its own, so that one which was cut says nothing of the next.
        head += &format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            self.body.len()
        );
        [head.as_bytes(), &self.body].concat()
    }
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// All texts that it carries: the values of its query and its form, or all that is in its JSON, or its
    /// body with the entities of XML read.
    pub(super) fn texts(&self) -> Vec<String> {
        let query = self.target.split_once('?').map(|(_, query)| query);
        let form = |bytes: &[u8]| -> Vec<String> {
            let pairs = url::form_urlencoded::parse(bytes);
            pairs.map(|(_, value)| value.into_owned()).collect()
        };
        let mut texts = form(query.unwrap_or_default().as_bytes());
        if let Ok(value) = serde_json::from_slice(&self.body) {
            leaves(&value, &mut texts);
        } else if self.is_form() {
            texts.extend(form(&self.body));
        } else {
            let body = String::from_utf8_lossy(&self.body);
            let entities = [
                ("&lt;", "<"),
                ("&gt;", ">"),
                ("&quot;", "\""),
                ("&apos;", "'"),
                ("&amp;", "&"),
            ];
            let read = entities
                .iter()
                .fold(body.to_string(), |text, (entity, char)| {
                    text.replace(entity, char)
                });
            texts.extend([body.into_owned(), read]);
        }
        texts
    }

    fn is_form(&self) -> bool {
        self.headers.iter().any(|(name, value)| {
            name == "content-type" && value.starts_with("application/x-www-form-urlencoded")
        })
    }
}

fn leaves(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|one| leaves(one, texts)),
        serde_json::Value::Object(all) => all.values().for_each(|one| leaves(one, texts)),
        other => texts.push(other.to_string()),
    }
}

#[derive(Debug)]
struct State {
    act: Act,
    /// Answers to what hands over no message, by what the path begins with.
    others: Vec<(String, Answer)>,
    /// Those that it did `act` with.
    requests: Vec<Request>,
}

/// The server. Its connections end when it goes.
#[derive(Debug)]
pub(super) struct Company {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Company {
    /// Starts one that answers requests whose path begins as one of `others` says as that one says.
    pub(super) async fn start(others: Vec<(String, Answer)>) -> io::Result<Company> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            act: Act::HangUp,
            others,
            requests: Vec::new(),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, state.clone()));
        Ok(Company {
            state,
            address,
            _tasks: tasks,
        })
    }

    /// Where it is, as a granted host.
    pub(super) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// From now on it does so with each message; the requests so far are forgotten.
    pub(super) fn play(&self, act: Act) {
        let mut state = lock(&self.state);
        state.act = act;
        state.requests.clear();
    }

    /// The messages that have come since it was told what to do.
    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }
}

/// An address where nobody answers, for as long as the value lives.
pub(super) fn nobody() -> io::Result<(TcpSocket, String)> {
    let socket = TcpSocket::new_v4()?;
    // Bound, so that nobody else gets the port, and not listened at.
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let authority = socket.local_addr()?.to_string();
    Ok((socket, authority))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept fails when the other side is already gone again.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(stream, state.clone()));
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let read = tokio::time::timeout(READING_MAX, read(&mut stream)).await;
    // Who hangs up before the request is whole has asked nothing.
    let Ok(Ok(request)) = read else { return };
    let act = {
        let mut state = lock(&state);
        let other = state
            .others
            .iter()
            .find(|(path, _)| request.target.starts_with(path.as_str()));
        match other {
            Some((_, answer)) => Act::Answer(answer.clone()),
            None => {
                state.requests.push(request);
                state.act.clone()
            }
        }
    };
    // Whoever does not want the answer is gone; that is for the case to judge.
    let _ = match act {
        Act::HangUp => Ok(()),
        Act::Silence => stream.read_u8().await.map(|_| ()),
        Act::Answer(answer) => stream.write_all(&answer.bytes()).await,
        Act::Cut(answer) => {
            let bytes = answer.bytes();
            // At least one byte of the body is missing.
            stream.write_all(&bytes[..bytes.len() - 1]).await
        }
    };
    let _ = stream.shutdown().await;
}

/// Reads a whole request, whose length the client always says.
async fn read(stream: &mut TcpStream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        more(stream, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1));
    let target = target.unwrap_or_default().to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize =
        length.map_or(Ok(0), |(_, value)| value.parse().map_err(io::Error::other))?;
    let end = (head_end + 4).saturating_add(length);
    while bytes.len() < end {
        more(stream, &mut bytes).await?;
    }
    Ok(Request {
        target,
        headers,
        body: bytes[head_end + 4..end].to_vec(),
    })
}

async fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(io::Error::other("the request is too long"));
    }
    match stream.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(media_type: &str, target: &str, body: &str) -> Request {
        Request {
            target: target.to_owned(),
            headers: vec![("content-type".to_owned(), media_type.to_owned())],
            body: body.into(),
        }
    }

    #[test]
    fn a_text_is_found_however_it_is_carried() {
        let text = "a & \"b\" <c> +1";
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        for request in [
            request(
                "application/json",
                "/",
                r#"{"m":[{"text":"a & \"b\" <c> +1"}]}"#,
            ),
            request(form, "/", "text=a+%26+%22b%22+%3Cc%3E+%2B1"),
            request("", "/?text=a%20%26%20%22b%22%20%3Cc%3E%20%2B1", ""),
        ] {
            assert!(request.texts().iter().any(|one| one == text), "{request:?}");
        }
        let xml = request("text/xml", "/", "<t>a &amp; &quot;b&quot; &lt;c&gt; +1</t>");
        assert!(xml.texts().iter().any(|one| one.contains(text)), "{xml:?}");
    }

    #[tokio::test]
    async fn it_does_what_it_is_told_and_remembers_who_asked() {
        let token = Answer {
            status: 200,
            body: b"t".to_vec(),
            ..Answer::default()
        };
        let company = Company::start(vec![("/token".to_owned(), token.clone())]).await;
        let company = company.expect("started");
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(company.address).await.expect("there");
            let head = format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
            stream.write_all(head.as_bytes()).await.expect("written");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("read");
            answer
        };
        let taken = Answer {
            status: 201,
            ..token.clone()
        };
        company.play(Act::Answer(taken.clone()));
        assert_eq!(ask("/messages").await, taken.bytes());
        assert_eq!(ask("/token/new").await, token.bytes());
        let requests = company.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(
            (requests[0].target.as_str(), &*requests[0].body),
            ("/messages", &b"hi"[..])
        );
        company.play(Act::Cut(taken.clone()));
        assert!(company.requests().is_empty());
        let whole = taken.bytes();
        assert_eq!(ask("/messages").await, whole[..whole.len() - 1]);
        company.play(Act::HangUp);
        assert_eq!(ask("/messages").await, b"");
    }

    #[tokio::test]
    async fn nobody_answers_where_nobody_is() {
        let (_held, authority) = nobody().expect("an address");
        let refused = TcpStream::connect(&authority).await.expect_err("nobody");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}

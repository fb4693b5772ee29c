//! A fake of Twilio: a real HTTP server that does what [`crate::messages_api`] says, or what a
//! test tells it to.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::LOCATION;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::accept::accept;
use crate::messages_api::{
    Message, Request, asked_about, error, json_response, objection, resource,
};

/// What the fake does with a request that it would otherwise accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 201 with the message.
    Accept,
    /// An error in Twilio's shape.
    Error {
        /// The HTTP status.
        status: u16,
        /// Twilio's own code.
        code: u32,
        /// Seconds for a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// No answer until [`FakeTwilio::release`], then 201.
    Hang,
    /// 201 after that time.
    Delay(Duration),
    /// Cuts the connection before the body is read. The receiver is in the body, so this cannot be
    /// scripted for one phone.
    CloseBeforeBody,
    /// Reads the whole request and cuts the connection.
    CloseAfterBody,
    /// 201 whose body is no JSON.
    Garbage,
    /// 307 to another address.
    Redirect(String),
}

impl Reply {
    /// An error without `Retry-After`.
    pub fn error(status: u16, code: u32) -> Self {
        Self::Error {
            status,
            code,
            retry_after: None,
        }
    }

    /// 429 that asks to come back after `seconds`.
    pub fn throttled(seconds: u32) -> Self {
        Self::Error {
            status: 429,
            code: 20429,
            retry_after: Some(seconds),
        }
    }
}

#[derive(Debug)]
struct State {
    requests: Vec<Request>,
    messages: Vec<Message>,
    /// How many messages `next_message` has handed out.
    seen: usize,
    always: Reply,
    next: VecDeque<Reply>,
    per_phone: HashMap<String, VecDeque<Reply>>,
    /// What messages cost, by the beginning of their numbers.
    prices: Vec<(String, String)>,
    /// What is told of messages to whoever asks, by their names: the status, and the price.
    told: HashMap<String, (String, Option<String>)>,
    /// How often that was.
    questions: usize,
}

impl State {
    fn reply_to(&mut self, phone: &str) -> Reply {
        let scripted = self.per_phone.get_mut(phone).and_then(VecDeque::pop_front);
        scripted
            .or_else(|| self.next.pop_front())
            .unwrap_or_else(|| self.always.clone())
    }

    /// The resource of a message, with what it costs.
    fn resource(&self, message: &Message) -> Value {
        let mut resource = resource(message);
        let mut prices = self.prices.iter().rev();
        let price = prices.find(|(prefix, _)| message.to.starts_with(prefix.as_str()));
        if let Some((_, price)) = price {
            resource["price"] = price.as_str().into();
        }
        resource
    }

    /// What is told of the message `sid` now: that it was sent, unless a test says otherwise.
    fn present(&self, sid: &str) -> Option<Value> {
        let message = self.messages.iter().find(|message| message.sid == sid)?;
        let mut resource = self.resource(message);
        resource["status"] = "sent".into();
        if let Some((status, price)) = self.told.get(sid) {
            resource["status"] = status.as_str().into();
            resource["price"] = price.as_deref().into();
        }
        Some(resource)
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts whatever happens, so that waiting needs no polling.
    changes: watch::Sender<u64>,
    /// Counts calls of `release`.
    releases: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

/// The fake. Its connections end when it goes.
#[derive(Debug)]
pub struct FakeTwilio {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Bound, but not listening yet: connections are refused, and nobody else gets the port.
    refusing: Option<TcpSocket>,
    tasks: JoinSet<()>,
}

impl FakeTwilio {
    /// A fake that accepts everything that Twilio would.
    pub async fn start() -> Self {
        let mut twilio = Self::start_refusing();
        twilio.accept_connections();
        twilio
    }

    /// A fake whose address is known and refuses connections until [`Self::accept_connections`].
    pub fn start_refusing() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("loopback has a free port");
        let address = socket.local_addr().unwrap();
        let state = State {
            requests: Vec::new(),
            messages: Vec::new(),
            seen: 0,
            always: Reply::Accept,
            next: VecDeque::new(),
            per_phone: HashMap::new(),
            prices: Vec::new(),
            told: HashMap::new(),
            questions: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            releases: watch::Sender::new(0),
        });
        Self {
            shared,
            address,
            refusing: Some(socket),
            tasks: JoinSet::new(),
        }
    }

    /// Ends the refusing of [`Self::start_refusing`].
    pub fn accept_connections(&mut self) {
        if let Some(socket) = self.refusing.take() {
            let listener = socket.listen(1024).unwrap();
            self.tasks
                .spawn(accept(listener, Arc::clone(&self.shared), answer));
        }
    }

    /// What `TWILIO_BASE_URL` has to be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests get `reply`, unless one is scripted.
    pub fn always(&self, reply: Reply) {
        self.shared.state().always = reply;
    }

    /// The next requests get these replies, one each.
    pub fn next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.state().next.extend(replies);
    }

    /// The next requests for `phone` get these replies, one each.
    pub fn next_to(&self, phone: &str, replies: impl IntoIterator<Item = Reply>) {
        self.shared
            .state()
            .per_phone
            .entry(phone.to_owned())
            .or_default()
            .extend(replies);
    }

    /// From now on messages to numbers that begin so cost that much, as Twilio writes it.
    pub fn price(&self, prefix: &str, price: &str) {
        let price = (prefix.to_owned(), price.to_owned());
        self.shared.state().prices.push(price);
    }

    /// From now on whoever asks about `message` is told that status and that price, as Twilio writes them.
    pub fn tell(&self, message: &Message, status: &str, price: Option<&str>) {
        let told = (status.to_owned(), price.map(str::to_owned));
        self.shared.state().told.insert(message.sid.clone(), told);
    }

    /// How often it was asked what became of a message.
    pub fn questions(&self) -> usize {
        self.shared.state().questions
    }

    /// Waits until that was asked so often.
    pub async fn wait_for_questions(&self, n: usize) {
        let what = format!("{n} questions about messages");
        let asked = |state: &mut State| (state.questions >= n).then_some(());
        self.until(&what, asked).await;
    }

    /// How many requests to send something have arrived, answered or not.
    pub fn posts(&self) -> usize {
        posts(&self.shared.state()).count()
    }

    /// Waits until so many have arrived.
    pub async fn wait_for_posts(&self, n: usize) {
        let what = format!("{n} requests to send");
        let arrived = |state: &mut State| (posts(state).count() >= n).then_some(());
        self.until(&what, arrived).await;
    }

    /// Answers what hangs, and hangs no more.
    pub fn release(&self) {
        self.always(Reply::Accept);
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Waits for a message that no earlier call has returned.
    pub async fn next_message(&self) -> Message {
        self.until("message", |state| {
            let message = state.messages.get(state.seen)?.clone();
            state.seen += 1;
            Some(message)
        })
        .await
    }

    /// Waits until `phone` has got a message, and returns the newest.
    pub async fn message_to(&self, phone: &str) -> Message {
        self.until(&format!("message to {phone}"), |state| {
            state
                .messages
                .iter()
                .rev()
                .find(|message| message.to == phone)
                .cloned()
        })
        .await
    }

    /// Waits for the `n`th message (from 1) to `phone` that has a code, and returns the code.
    pub async fn nth_code(&self, phone: &str, n: usize) -> String {
        self.until(&format!("code {n} for {phone}"), |state| {
            let messages = state.messages.iter();
            let mut codes = messages
                .filter(|message| message.to == phone && message.body.contains("code is: "));
            codes.nth(n - 1).map(Message::code)
        })
        .await
    }

    /// Waits for a message to `phone` without a code, and returns its text.
    pub async fn notice_to(&self, phone: &str) -> String {
        self.until(&format!("notice to {phone}"), |state| {
            let mut messages = state.messages.iter();
            let notice =
                messages.find(|message| message.to == phone && !message.body.contains("code is: "));
            notice.map(|message| message.body.clone())
        })
        .await
    }

    /// Waits until at least `n` messages were accepted, and returns all.
    pub async fn wait_for_count(&self, n: usize) -> Vec<Message> {
        let what = format!("{n} messages");
        self.until(&what, |state| {
            (state.messages.len() >= n).then(|| state.messages.clone())
        })
        .await
    }

    /// Waits until at least `n` requests for `phone` have arrived, accepted or not.
    pub async fn wait_for_requests_to(&self, phone: &str, n: usize) -> Vec<Request> {
        let what = format!("{n} requests for {phone}");
        self.until(&what, |state| {
            let found: Vec<_> = state
                .requests
                .iter()
                .filter(|request| request.to() == phone)
                .cloned()
                .collect();
            (found.len() >= n).then_some(found)
        })
        .await
    }

    /// What the next message will be called, for callbacks that overtake the answer to a send.
    pub fn next_sid(&self) -> String {
        sid(self.shared.state().messages.len() + 1)
    }

    /// All messages accepted so far.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.state().messages.clone()
    }

    /// All requests to send something so far, accepted or not. What a server asks about messages after a
    /// while is not among them.
    pub fn requests(&self) -> Vec<Request> {
        posts(&self.shared.state()).cloned().collect()
    }

    /// All requests for `phone` so far, accepted or not.
    pub fn requests_to(&self, phone: &str) -> Vec<Request> {
        let state = self.shared.state();
        state
            .requests
            .iter()
            .filter(|request| request.to() == phone)
            .cloned()
            .collect()
    }

    async fn until<T>(&self, what: &str, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        let search = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = find(&mut self.shared.state()) {
                    return found;
                }
                changes
                    .changed()
                    .await
                    .expect("the fake lives as long as this call");
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("no {what} within {PATIENCE:?}; {:#?}", self.shared.state()),
        }
    }
}

fn posts(state: &State) -> impl Iterator<Item = &Request> {
    let all = state.requests.iter();
    all.filter(|request| request.method == "POST")
}

/// The fake's name for its `n`th message, from 1.
fn sid(n: usize) -> String {
    format!("SM{n:032x}")
}

async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let cut_early = shared.state().next.front() == Some(&Reply::CloseBeforeBody);
    let body = if cut_early {
        Bytes::new()
    } else {
        body.collect().await.map_err(io::Error::other)?.to_bytes()
    };
    let header = |name: &hyper::header::HeaderName, value: &hyper::header::HeaderValue| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    let request = Request {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| header(name, value))
            .collect(),
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        body,
        at: Instant::now(),
    };
    let mut releases = shared.releases.subscribe();
    let reply = {
        let mut state = shared.state();
        state.requests.push(request.clone());
        if cut_early {
            state.next.pop_front().unwrap_or(Reply::CloseBeforeBody)
        } else if let Some((status, code, text)) = objection(&request) {
            drop(state);
            shared.changed();
            return Ok(error(status, code, text, None));
        } else if let Some(sid) = asked_about(&request) {
            state.questions += 1;
            let found = state.present(sid);
            drop(state);
            shared.changed();
            return Ok(match found {
                Some(resource) => json_response(200, resource.to_string().into()),
                None => error(404, 20404, "The requested resource was not found", None),
            });
        } else {
            state.reply_to(request.to())
        }
    };
    shared.changed();
    match reply {
        Reply::CloseBeforeBody | Reply::CloseAfterBody => {
            return Err(io::Error::other("cut by the script"));
        }
        Reply::Error {
            status,
            code,
            retry_after,
        } => {
            return Ok(error(status, code, "Scripted by the test", retry_after));
        }
        Reply::Garbage => return Ok(json_response(201, Bytes::from_static(b"<html>Created"))),
        Reply::Redirect(location) => {
            let mut response = json_response(307, Bytes::new());
            response
                .headers_mut()
                .insert(LOCATION, location.parse().unwrap());
            return Ok(response);
        }
        Reply::Hang => {
            let _ = releases.changed().await;
        }
        Reply::Delay(time) => tokio::time::sleep(time).await,
        Reply::Accept => {}
    }
    let resource = {
        let mut state = shared.state();
        let message = Message {
            to: request.to().to_owned(),
            body: request.field("Body").unwrap_or_default().to_owned(),
            sid: sid(state.messages.len() + 1),
            status_callback: request.field("StatusCallback").map(str::to_owned),
        };
        state.messages.push(message.clone());
        state.resource(&message)
    };
    shared.changed();
    Ok(json_response(201, resource.to_string().into()))
}

#[cfg(test)]
mod tests;

//! Fakes of the other companies that providers are built in for: a real HTTP server that judges requests
//! as one of them would, and records them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::accept::accept;
use crate::messages_api::{Request, json_response};

/// What a company makes of the `n`th request (from 1): a status, and the JSON of the answer.
pub type Manners = fn(&Request, usize) -> (u16, Value);

#[derive(Debug)]
struct Shared {
    manners: Manners,
    requests: Mutex<Vec<Request>>,
    next: Mutex<VecDeque<(u16, Value)>>,
    /// How many requests there were.
    count: watch::Sender<usize>,
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }
}

/// The fake. Its connections end when it goes.
#[derive(Debug)]
pub struct FakeCompany {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl FakeCompany {
    /// A fake of the company with these manners.
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manners,
            requests: Mutex::default(),
            next: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), answer));
        Self {
            shared,
            address,
            _tasks: tasks,
        }
    }

    /// What the setting `base-url` has to be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next requests are answered so, whatever they are.
    pub fn next(&self, answers: impl IntoIterator<Item = (u16, Value)>) {
        self.shared.next.lock().unwrap().extend(answers);
    }

    /// Waits for the `n`th request (from 1).
    pub async fn request(&self, n: usize) -> Request {
        let mut count = self.shared.count.subscribe();
        let arrived = count.wait_for(|count| *count >= n);
        match tokio::time::timeout(PATIENCE, arrived).await {
            Ok(_) => self.shared.requests()[n - 1].clone(),
            Err(_) => panic!("no request {n}; {:#?}", self.shared.requests()),
        }
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.requests().len()
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        // Cut off by the server under test: nobody reads the answer.
        Err(_) => Bytes::new(),
    };
    let headers = head.headers.iter();
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        form: url::form_urlencoded::parse(&body).into_owned().collect(),
        body,
        at: Instant::now(),
    };
    let number = {
        let mut requests = shared.requests();
        requests.push(request.clone());
        requests.len()
    };
    let scripted = shared.next.lock().unwrap().pop_front();
    let (status, body) = scripted.unwrap_or_else(|| (shared.manners)(&request, number));
    shared.count.send_replace(number);
    Ok(json_response(status, body.to_string().into()))
}

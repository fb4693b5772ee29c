//! Request bodies: their type, their size and the time they may take.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Version};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::problem::{Kind, Problem};

/// How much of a body that is refused is read and thrown away, so that a client that is still
/// writing gets to read the answer in place of a reset connection.
const DISCARDED_BYTES_MAX: usize = 16 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Which media types are taken for JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// `application/json` and nothing else.
    Exact,
    /// Also `application/…+json` (RFC 6839).
    Usual,
}

/// Whether the body claims to be JSON.
///
/// # Errors
///
/// 415 where it does not.
pub(crate) fn check_json(headers: &HeaderMap, strictness: Strictness) -> Result<(), Problem> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    let essence = essence.trim().to_ascii_lowercase();
    let usual = || essence.starts_with("application/") && essence.ends_with("+json");
    if essence == "application/json" || strictness == Strictness::Usual && usual() {
        Ok(())
    } else {
        let detail = "Send the header `Content-Type: application/json`.";
        Err(Problem::new(Kind::NotJson, detail))
    }
}

/// Reads a body of at most `bytes_max` within `time`.
///
/// # Errors
///
/// 413, 408, or 400 where the connection breaks off.
pub(crate) async fn read(
    parts: &Parts,
    body: Body,
    bytes_max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("At most {bytes_max} bytes are taken.");
        Problem::new(Kind::TooLarge, detail)
    };
    // A client that waits for `100 Continue` has not sent anything yet and need not.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max && parts.headers.contains_key(EXPECT) {
        return Err(too_large());
    }
    match tokio::time::timeout(time, collect(body, bytes_max)).await {
        Ok(Collected::All(bytes)) => Ok(bytes),
        Ok(Collected::TooLarge(rest)) => {
            discard(parts.version, rest).await;
            Err(too_large())
        }
        Ok(Collected::Broken) => {
            let detail = "The body broke off before its end.";
            Err(Problem::new(Kind::BadRequest, detail))
        }
        Err(_) => {
            let detail = format!("The body must arrive within {} seconds.", time.as_secs());
            Err(Problem::new(Kind::RequestTimeout, detail))
        }
    }
}

enum Collected {
    All(Bytes),
    TooLarge(Body),
    Broken,
}

async fn collect(mut body: Body, bytes_max: usize) -> Collected {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Collected::Broken;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(all.len(), Bytes::len);
        if so_far + data.len() > bytes_max {
            return Collected::TooLarge(body);
        }
        // Most bodies are one piece, which then is not copied.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(earlier) => {
                all.extend_from_slice(&earlier);
                all.extend_from_slice(&data);
            }
        }
    }
    Collected::All(first.unwrap_or_else(|| all.freeze()))
}

/// Reads the rest of a body that nobody wants, within bounds. Where it comes over HTTP/2 there is no need: its
/// sender is told to stop, and reads the answer all the same (RFC 9113, 8.1).
pub(crate) async fn discard(version: Version, mut body: Body) {
    if version == Version::HTTP_2 || body.is_end_stream() {
        return;
    }
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARDED_BYTES_MAX {
                break;
            }
        }
    };
    // Either way the answer follows.
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

/// Answers `problem` to a request whose body was not read.
pub(crate) async fn refuse(parts: &Parts, body: Body, problem: Problem) -> Response {
    if !parts.headers.contains_key(EXPECT) {
        discard(parts.version, body).await;
    }
    problem.into_response()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use axum::http::{HeaderValue, Request};
    use hyper::body::Frame;
    use tokio::time::Instant;

    /// A body whose sender has fallen silent.
    struct Endless;

    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    fn parts(version: Version) -> Parts {
        let request = Request::builder().version(version).body(());
        request.expect("nothing can be wrong").into_parts().0
    }

    #[track_caller]
    fn check_type(value: &'static str, exact: bool, usual: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        assert_eq!(
            check_json(&headers, Strictness::Exact).is_ok(),
            exact,
            "{value}"
        );
        assert_eq!(
            check_json(&headers, Strictness::Usual).is_ok(),
            usual,
            "{value}"
        );
    }

    #[test]
    fn only_json_is_json() {
        check_type("application/json", true, true);
        check_type("Application/JSON; charset=utf-8", true, true);
        check_type("application/vnd.shop+json", false, true);
        check_type("text/plain", false, false);
        check_type("text/json", false, false);
        check_type("application/x-www-form-urlencoded", false, false);
        assert!(check_json(&HeaderMap::new(), Strictness::Usual).is_err());
    }

    #[tokio::test]
    async fn a_body_is_read_at_its_bound_and_refused_one_past_it() {
        let read = async |bytes: usize| {
            let body = Body::from(vec![b'x'; bytes]);
            let time = Duration::from_secs(5);
            let read = read(&parts(Version::HTTP_11), body, 100, time).await;
            read.map(|bytes| bytes.len())
                .map_err(|problem| problem.kind())
        };
        assert_eq!(read(0).await, Ok(0));
        assert_eq!(read(100).await, Ok(100));
        assert_eq!(read(101).await, Err(Kind::TooLarge));
        assert_eq!(read(5_000_000).await, Err(Kind::TooLarge));
    }

    /// Over HTTP/1.1 who is still writing would get a reset connection in place of the answer.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_waits_for_the_body_over_http_1_alone() {
        for (version, waits) in [
            (Version::HTTP_11, DISCARD_TIME),
            (Version::HTTP_2, Duration::ZERO),
        ] {
            let began = Instant::now();
            let problem = Problem::new(Kind::NotFound, "There is nothing.");
            refuse(&parts(version), Body::new(Endless), problem).await;
            assert_eq!(began.elapsed(), waits, "{version:?}");
        }
    }
}

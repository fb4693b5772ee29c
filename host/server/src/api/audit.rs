//! `/api/audit`: what was done to a user and by them, the newest first.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;

use super::answer::Answer;
use super::problem::{Kind, Problem};
use super::{Api, Asker, AuditCursor, UserId};
use crate::users::Trail;

/// Entries on a page where nothing is said.
const PAGE: usize = 50;
/// And at most.
const PAGE_MAX: usize = 200;

/// Any key may ask for any user: keys are those of one operator's applications.
pub(super) async fn trail(
    State(api): State<Arc<Api>>,
    Extension(asker): Extension<Asker>,
    uri: Uri,
) -> Response {
    let Asked { user, after, limit } = match asked(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let _place = match runtime.host_place(&asker.in_line()).await {
        Ok(place) => place,
        Err(busy) => return Problem::from(busy).into_response(),
    };
    match runtime.audit_trail(&user, after, limit).await {
        Ok(page) => Answer::ok(&Trail::from(page)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Which page of whose trail.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    user: UserId,
    after: Option<AuditCursor>,
    limit: usize,
}

fn asked(query: &str) -> Result<Asked, Problem> {
    let bad = |detail: &str| Problem::new(Kind::BadRequest, detail);
    let (mut user, mut after, mut limit) = (None, None, PAGE);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "user" if user.is_some() => return Err(bad("`user` must come once.")),
            // What stands for bytes that are not UTF-8 would be the id of somebody else.
            "user" if value.contains(char::REPLACEMENT_CHARACTER) => {
                return Err(bad("`user` is not UTF-8 in percent-encoding (RFC 3986)."));
            }
            "user" => user = Some(value.parse().map_err(|_| Problem::no_user_id())?),
            "cursor" => {
                let cursor = value.parse();
                let cursor =
                    cursor.map_err(|_| bad("`cursor` must be the `next` of an earlier page."))?;
                after = Some(cursor);
            }
            "limit" => {
                let number = value.parse().ok();
                let number = number.filter(|number| (1..=PAGE_MAX).contains(number));
                limit = number.ok_or_else(|| bad("`limit` must be a number from 1 to 200."))?;
            }
            _ => return Err(bad("Only `user`, `cursor` and `limit` are known here.")),
        }
    }
    let user = user.ok_or_else(|| bad("Name the user: /api/audit?user=ID."))?;
    Ok(Asked { user, after, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: Option<(&str, Option<&str>, usize)>) {
        let got = asked(query).ok();
        let got = got.as_ref().map(|asked| {
            let after = asked.after.map(|after| after.to_string());
            (asked.user.as_str(), after, asked.limit)
        });
        let want = want.map(|(user, after, limit)| (user, after.map(str::to_owned), limit));
        assert_eq!(got, want, "{query}");
    }

    #[test]
    fn a_page_is_one_users_and_has_1_to_200_entries() {
        let cursor = "0".repeat(20);
        check("user=u1", Some(("u1", None, 50)));
        check("user=a%2Fb%20c", Some(("a/b c", None, 50)));
        check("user=u1&limit=1", Some(("u1", None, 1)));
        let second = format!("user=u1&limit=200&cursor={cursor}");
        check(&second, Some(("u1", Some(&cursor), 200)));
        for wrong in [
            "",
            "user=",
            "user=a%00",
            "user=a%FF",
            "user=a&user=b",
            "user=u1&limit=0",
            "user=u1&limit=201",
            "user=u1&limit=x",
            "user=u1&cursor=1",
            "user=u1&page=2",
        ] {
            check(wrong, None);
        }
    }
}

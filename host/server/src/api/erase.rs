//! `/api/phones/erase`: erases what is kept of messages to a number, and keeps the sums.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use countersign_queue::Erased;
use countersign_types::UnixMillis;
use serde_json::json;

use super::Api;
use super::admitted::Admitted;
use super::answer::{Answer, Judged};
use super::fields::PHONE_BYTES_MAX;
use super::messages::no_such_phone;
use super::problem::Problem;

/// Any key may: whoever has one may send to the number, and nothing here gives back a limit, a try or a
/// factor.
pub(super) async fn erase(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Admitted {
        context,
        claim,
        mut fields,
    } = match Admitted::read(&api, request).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.into_problem(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let number = fields.text("phoneNumber", PHONE_BYTES_MAX);
    let number = number.and_then(|number| {
        let parsed = runtime.parse_phone(&number);
        parsed.map_err(|error| no_such_phone("phoneNumber", error))
    });
    let number = match number {
        Ok(number) => number,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let call = async move |once| {
        let _place = runtime.host_place(&context.caller).await?;
        runtime.erase_phone(&context, &number, once).await
    };
    api.answer(claim, answer, call).await
}

fn answer(erased: &Erased, _: UnixMillis) -> Judged {
    let answer = Answer::ok(&json!({
        "success": true,
        "complete": erased.is_all(),
        "erased": {
            "messages": erased.messages,
            "dead": erased.dead,
            "waiting": erased.waiting,
        },
        "inHand": erased.in_hand,
    }));
    // Where something is left, the same request must go on with it.
    Ok(match erased.is_all() {
        true => answer,
        false => answer.unfinished(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_only_when_nothing_is_left() {
        let all = Erased {
            messages: 2,
            ..Erased::default()
        };
        let in_hand = Erased { in_hand: 1, ..all };
        let more = Erased { more: true, ..all };
        for (erased, is_kept) in [(all, true), (in_hand, false), (more, false)] {
            let answer = answer(&erased, UnixMillis(0)).expect("an answer");
            assert_eq!(answer.is_kept(), is_kept, "{erased:?}");
        }
    }
}

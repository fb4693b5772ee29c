//! Pages for people: the dashboard, the login in front of it, and the frame that pages share.
//!
//! HTML and SVG are made here and sent as they are: a page works without a script, and nothing of it
//! comes from another address. `shell` is the frame, `view` what an address asks for, `overview` the
//! dashboard, put together of `filters`, charts (`timeline`, `bars`, `spans`) and, under each, its
//! table (`sheet`), which is the CSV file too. `messages` is for who looks for one. `words` has numbers as people read them, `country`
//! names, `asset` what is sent beside the pages. `session` and `tries` are the login, `sought` is what is
//! looked for, and `ticket` how a browser carries either.
//!
//! What never lives here: statuses, routes and headers (they are the API's), and where figures come from.

pub(crate) mod asset;
mod bars;
pub(crate) mod country;
mod filters;
pub(crate) mod messages;
mod overview;
mod session;
mod sheet;
pub(crate) mod shell;
mod sought;
mod spans;
mod ticket;
mod timeline;
mod tries;
mod view;
mod words;

use std::sync::Arc;

use countersign_store::{Keyring, Store};
use countersign_types::{Clock, Secret};

pub(crate) use overview::{Overview, Shown};
pub(crate) use session::{Session, SessionError, Sessions};
pub(crate) use sheet::Sheet;
pub(crate) use sought::{Searches, Sought, Typed};
pub(crate) use ticket::Unsealable;
pub(crate) use tries::Tries;
pub(crate) use view::{View, fitting};

/// What pages need beside the figures.
pub(crate) struct Pages {
    pub(crate) sessions: Sessions,
    pub(crate) searches: Searches,
    pub(crate) tries: Tries,
    /// The names of the providers, as configured.
    pub(crate) providers: Vec<String>,
}

impl Pages {
    /// Pages of the administrator who has `admin_token`; `secure` says whether browsers come by `https`.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        admin_token: Option<&Secret<String>>,
        secure: bool,
        providers: Vec<String>,
    ) -> Pages {
        Pages {
            searches: Searches::new(keyring.clone(), admin_token),
            sessions: Sessions::new(store, keyring, admin_token, secure),
            tries: Tries::new(clock),
            providers,
        }
    }
}

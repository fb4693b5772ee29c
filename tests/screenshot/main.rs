//! Takes pictures of the dashboard: the real server with a month of messages, in headless Chromium.
//!
//! `countersign-screenshot FILE` writes the picture of the README. `countersign-screenshot FOLDER` writes
//! them all, to be looked at: light, dark, on a phone, with tables, and the pages around it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command line tool of the developers"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use countersign_tests::{ADMIN_TOKEN, Browser, Traffic};

const DAYS: u64 = 30;
const MESSAGES_A_DAY: usize = 150;
const MONTH: &str = "/dashboard?start=2026-03-01&end=2026-03-30";
const WIDTH: u32 = 1240;
const PHONE_WIDTH: u32 = 390;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(target) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("Usage: countersign-screenshot FILE.png | FOLDER");
        return ExitCode::from(2);
    };
    let (traffic, browser) = tokio::join!(Traffic::of(DAYS, MESSAGES_A_DAY), Browser::start());
    println!("    {} messages", traffic.messages);
    let desk = Desk { traffic, browser };
    if target.is_dir() {
        desk.all(&target).await;
    } else {
        desk.log_in().await;
        desk.show(MONTH).await;
        desk.keep(&target).await;
    }
    ExitCode::SUCCESS
}

struct Desk {
    traffic: Traffic,
    browser: Browser,
}

impl Desk {
    async fn go(&self, path: &str) {
        let port = self.traffic.server.address().port();
        let url = format!("http://localhost:{port}{path}");
        self.browser.open(&url).await;
    }

    async fn log_in(&self) {
        self.browser.resize(WIDTH, 900).await;
        self.browser.prefer_dark(false).await;
        self.go("/dashboard").await;
        let field = self.browser.element("#token").await;
        field.type_in(ADMIN_TOKEN).await;
        self.browser.element("button.main").await.click().await;
        self.browser.element("#figures").await;
    }

    async fn show(&self, path: &str) {
        self.go(path).await;
        self.browser.element("#figures").await;
    }

    async fn keep(&self, file: &Path) {
        fs::write(file, self.browser.picture().await).unwrap();
        println!("    {}", file.display());
    }

    async fn all(&self, folder: &Path) {
        self.browser.resize(WIDTH, 900).await;
        self.go("/dashboard").await;
        self.keep(&folder.join("login.png")).await;
        self.log_in().await;
        let of_india = format!("{MONTH}&country=IN&interval=day");
        let pages = [
            ("month", MONTH),
            ("day", "/dashboard?start=2026-03-17&end=2026-03-18"),
            ("india", &of_india),
            (
                "empty",
                "/dashboard?start=2025-01-01&end=2025-01-31&country=FR",
            ),
            ("year", "/dashboard?start=2025-04-01&end=2026-03-31"),
        ];
        for (name, path) in pages {
            self.show(path).await;
            self.looks(folder, name).await;
        }
        self.show(MONTH).await;
        let open =
            "document.querySelectorAll('details').forEach((details) => { details.open = true })";
        self.browser.run(open).await;
        self.keep(&folder.join("tables.png")).await;
        self.go("/dashboard?start=2026-03-30&end=2026-03-01").await;
        self.keep(&folder.join("refused.png")).await;
        self.messages(folder).await;
    }

    /// The newest messages, a search that is refused, one that finds nothing, and one message: masked and whole.
    async fn messages(&self, folder: &Path) {
        for (phone, name) in [
            ("", "messages"),
            ("12", "messages-refused"),
            ("+1 202 555 0199", "messages-none"),
        ] {
            self.go("/dashboard/messages").await;
            self.browser.element("#phone").await.type_in(phone).await;
            self.browser.element("button.main").await.click().await;
            self.browser.element("#found, #error").await;
            self.looks(folder, name).await;
        }
        self.go("/dashboard/messages").await;
        self.browser.element("tbody a").await.click().await;
        self.browser.element("#course").await;
        self.looks(folder, "message").await;
        self.browser.element(".story button").await.click().await;
        self.browser.element("p[role=status]").await;
        self.looks(folder, "message-whole").await;
    }

    /// The present page light and dark, wide and on a phone.
    async fn looks(&self, folder: &Path, name: &str) {
        for (width, size) in [(PHONE_WIDTH, "-phone"), (WIDTH, "")] {
            self.browser.resize(width, 900).await;
            for (is_dark, look) in [(true, "-dark"), (false, "")] {
                self.browser.prefer_dark(is_dark).await;
                self.keep(&folder.join(format!("{name}{size}{look}.png")))
                    .await;
            }
        }
    }
}

//! A real browser: Chromium without a window, driven through chromedriver.
//!
//! The protocol is the W3C's [WebDriver](https://www.w3.org/TR/webdriver2/), spoken here by hand: it is JSON
//! over HTTP, a test of pages needs a dozen of its commands, and the libraries for it bring a second HTTP
//! stack, or another feature of `serde_json` into the binary that is tested beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::process::Process;
use crate::{Client, PATIENCE};

/// The member of an answer that holds an element's name (WebDriver, 12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How many browsers there are at once: each is a dozen processes, and more of them on a small machine only
/// make each other slow.
static BROWSERS: Semaphore = Semaphore::const_new(2);

/// A browser with a profile of its own. It ends with this value.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    session: String,
    driver: Process,
    _home: TempDir,
    _one_of_few: SemaphorePermit<'static>,
}

impl Browser {
    /// Starts chromedriver on a free port, and Chromium through it.
    ///
    /// # Panics
    /// When one of them is missing, with the line to type.
    pub async fn start() -> Self {
        let permit = BROWSERS.acquire().await.expect("it is never closed");
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(installed("chromedriver"));
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home.path())
            .arg("--port=0");
        let driver = Process::spawn(command);
        let address = driver
            .address("ChromeDriver was started successfully on port ")
            .await;
        let address = address.unwrap_or_else(|| panic!("chromedriver ended\n{}", driver.report()));
        let profile = format!("--user-data-dir={}", home.path().join("profile").display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // With it Chromium ends when chromedriver does, however that ends.
            "--remote-debugging-pipe",
            &profile,
        ];
        let options = json!({ "args": args, "binary": installed("chromium") });
        // An element that is not there yet is waited for by the browser.
        let patience = u64::try_from((PATIENCE / 2).as_millis()).unwrap();
        let timeouts = json!({ "implicit": patience });
        let logs = json!({ "browser": "ALL" });
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": logs,
            "timeouts": timeouts,
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let client = Client::new(address, None);
        let session = call(&client, Method::POST, "/session", Some(&wanted)).await;
        Self {
            session: text(&session["sessionId"]),
            client,
            driver,
            _home: home,
            _one_of_few: permit,
        }
    }

    /// Goes to an address, as if it had been typed.
    pub async fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    /// The address of the page.
    pub async fn url(&self) -> String {
        text(&self.get("url").await)
    }

    /// The first element that a CSS selector finds, waited for.
    pub async fn element(&self, selector: &str) -> Element<'_> {
        let wanted = json!({ "using": "css selector", "value": selector });
        self.find(&wanted).await
    }

    /// The first element of that name whose text is this, waited for.
    pub async fn element_saying(&self, name: &str, words: &str) -> Element<'_> {
        let path = format!("//{name}[normalize-space()=\"{words}\"]");
        self.find(&json!({ "using": "xpath", "value": path })).await
    }

    async fn find(&self, wanted: &Value) -> Element<'_> {
        let found = self.post("element", wanted).await;
        Element {
            browser: self,
            id: text(&found[ELEMENT]),
        }
    }

    /// Runs the body of a function in the page, and returns what it returns.
    pub async fn run(&self, script: &str) -> Value {
        let script = json!({ "script": script, "args": [] });
        self.post("execute/sync", &script).await
    }

    /// Runs a script in each page from now on, before its own.
    pub async fn run_first(&self, script: &str) {
        let script = json!({ "source": script });
        self.tell("Page.addScriptToEvaluateOnNewDocument", &script)
            .await;
    }

    /// A window of so many CSS pixels. What is narrower than 600 is a phone's, with two points to a pixel.
    pub async fn resize(&self, width: u32, height: u32) {
        let is_phone = width < 600;
        let metrics = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": if is_phone { 2 } else { 1 },
            "mobile": is_phone,
        });
        self.tell("Emulation.setDeviceMetricsOverride", &metrics)
            .await;
        // They would take their place from the page in a picture of all of it.
        let hidden = json!({ "hidden": true });
        self.tell("Emulation.setScrollbarsHidden", &hidden).await;
    }

    /// Whether the reader's system prefers dark pages.
    pub async fn prefer_dark(&self, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let media = json!({ "features": [feature] });
        self.tell("Emulation.setEmulatedMedia", &media).await;
    }

    /// Whether pages may run their scripts.
    pub async fn allow_scripts(&self, allowed: bool) {
        let disabled = json!({ "value": !allowed });
        self.tell("Emulation.setScriptExecutionDisabled", &disabled)
            .await;
    }

    /// Keeps what is downloaded in `folder`.
    pub async fn download_to(&self, folder: &Path) {
        let behavior = json!({ "behavior": "allow", "downloadPath": folder });
        self.tell("Browser.setDownloadBehavior", &behavior).await;
    }

    /// The whole page as a PNG, however long it is.
    pub async fn picture(&self) -> Vec<u8> {
        let wanted = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.tell("Page.captureScreenshot", &wanted).await;
        STANDARD.decode(text(&picture["data"])).unwrap()
    }

    /// Presses keys as WebDriver names them, one after the other, on whatever has the focus.
    pub async fn press(&self, keys: &[&str]) {
        let presses = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let presses: Vec<Value> = presses.collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": presses });
        self.post("actions", &json!({ "actions": [keyboard] }))
            .await;
    }

    /// What pages have written to the console since the last time, and what the browser has to say of them.
    pub async fn console(&self) -> Vec<Value> {
        let log = self.post("se/log", &json!({ "type": "browser" })).await;
        log.as_array().unwrap().clone()
    }

    /// A command of Chromium's own protocol.
    async fn tell(&self, command: &str, params: &Value) -> Value {
        let command = json!({ "cmd": command, "params": params });
        self.post("goog/cdp/execute", &command).await
    }

    /// The cookies of the page, each with `name`, `value`, `httpOnly`, `secure`, `sameSite`.
    pub async fn cookies(&self) -> Vec<Value> {
        let cookies = self.get("cookie").await;
        cookies.as_array().unwrap().clone()
    }

    /// All that chromedriver printed.
    pub fn report(&self) -> String {
        self.driver.report()
    }

    async fn get(&self, command: &str) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        call(&self.client, Method::GET, &path, None).await
    }

    async fn post(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        call(&self.client, Method::POST, &path, Some(body)).await
    }
}

/// An element of the page that the browser shows.
#[derive(Clone, Debug)]
pub struct Element<'a> {
    browser: &'a Browser,
    id: String,
}

impl Element<'_> {
    /// Clicks on it.
    pub async fn click(&self) {
        self.post("click", &json!({})).await;
    }

    /// Types into it, in place of what was there.
    pub async fn type_in(&self, words: &str) {
        self.post("clear", &json!({})).await;
        self.post("value", &json!({ "text": words })).await;
    }

    /// Its text as it is shown.
    pub async fn text(&self) -> String {
        text(&self.get("text").await)
    }

    /// An attribute as it stands in the page; `None` where it has none.
    pub async fn attribute(&self, name: &str) -> Option<String> {
        let value = self.get(&format!("attribute/{name}")).await;
        value.as_str().map(str::to_owned)
    }

    async fn get(&self, command: &str) -> Value {
        let command = format!("element/{}/{command}", self.id);
        self.browser.get(&command).await
    }

    async fn post(&self, command: &str, body: &Value) -> Value {
        let command = format!("element/{}/{command}", self.id);
        self.browser.post(&command, body).await
    }
}

/// One command: the answer's `value`.
async fn call(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Value {
    let what = format!("{method} {path} {}", body.unwrap_or(&Value::Null));
    let headers = [("content-type", "application/json")];
    let body = body.map_or_else(String::new, Value::to_string);
    let answer = client.request(method, path, &headers, body).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.json()["value"].clone()
}

#[track_caller]
fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

/// A program that the tests need beside Rust.
///
/// # Panics
/// When it is not there, with the line to type.
pub(crate) fn installed(program: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|folder| folder.join(OsStr::new(program)));
    let found = files.find(|file| fs::metadata(file).is_ok_and(|file| file.is_file()));
    found.unwrap_or_else(|| {
        panic!("`{program}` is not installed: run `cargo xtask browser` first, as root or to see what to type")
    })
}

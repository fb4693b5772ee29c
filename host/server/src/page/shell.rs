//! The frame of every page: head, navigation, and the pages of the login.

use maud::{DOCTYPE, Markup, html};

use super::asset;

/// Which page it is, among those in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Dashboard,
    Messages,
    /// Not among them, and nobody has logged in.
    Outside,
}

/// The pages in the navigation.
const PAGES: [(Place, &str, &str); 2] = [
    (Place::Dashboard, "/dashboard", "Dashboard"),
    (Place::Messages, "/dashboard/messages", "Messages"),
];

/// A whole page around its content.
pub(crate) fn page(place: Place, title: &str, content: &Markup) -> String {
    let is_inside = place != Place::Outside;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · countersign" }
                link rel="icon" type="image/svg+xml" href=(asset::ICON.path());
                link rel="stylesheet" href=(asset::STYLE.path());
                @if is_inside { script src=(asset::SCRIPT.path()) defer {} }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    span.brand {
                        img src=(asset::ICON.path()) alt="" width="24" height="24";
                        "countersign"
                    }
                    @if is_inside {
                        nav aria-label="Pages" {
                            @for (page, path, name) in PAGES {
                                @let current = (page == place).then_some("page");
                                a href=(path) aria-current=[current] { (name) }
                            }
                        }
                        form.logout method="post" action="/dashboard/logout" {
                            button type="submit" { "Log out" }
                        }
                    }
                }
                main id="main" tabindex="-1" { (content) }
            }
        }
    };
    page.into_string()
}

/// The form that asks for the token; `next` is where it leads, `error` what was wrong the last time.
pub(crate) fn login(next: &str, error: Option<&str>) -> String {
    let invalid = error.map(|_| "true");
    let described = error.map(|_| "error");
    let content = html! {
        section.card.login {
            h1 { "Log in" }
            p.muted id="hint" {
                "With the administrator’s token: the text of " code { "COUNTERSIGN_ADMIN_TOKEN" } "."
            }
            @if let Some(error) = error {
                p.error id="error" role="alert" { (error) }
            }
            form method="post" action="/dashboard/login" {
                input type="hidden" name="next" value=(next);
                // Password managers keep a token better where it has a name.
                input type="text" name="name" value="administrator" autocomplete="username" hidden readonly;
                label for="token" { "Token" }
                input id="token" type="password" name="token" required autofocus autocomplete="current-password"
                    aria-describedby=(described.unwrap_or("hint")) aria-invalid=[invalid];
                button.main type="submit" { "Log in" }
            }
        }
    };
    page(Place::Outside, "Log in", &content)
}

/// A page that says one thing: that something cannot be shown, and what to do.
pub(crate) fn notice(place: Place, title: &str, text: &str) -> String {
    let content = html! {
        section.card.notice {
            h1 { (title) }
            p { (text) }
        }
    };
    page(place, title, &content)
}

/// The page of a server without a token.
pub(crate) fn switched_off() -> String {
    let content = html! {
        section.card.notice {
            h1 { "The dashboard is switched off" }
            p {
                "It shows itself to whoever has the administrator’s token, and this server has none. Set "
                code { "COUNTERSIGN_ADMIN_TOKEN" } " to a long random text and restart the server:"
            }
            pre {
                code {
                    "export COUNTERSIGN_ADMIN_TOKEN=\"$(openssl rand -base64 32)\"\n"
                    "countersign serve"
                }
            }
        }
    };
    page(Place::Outside, "Switched off", &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_text_in_the_page() {
        let shown = login("/dashboard?\"><script>", Some("<b>"));
        assert!(
            shown.contains("value=\"/dashboard?&quot;&gt;&lt;script&gt;\""),
            "{shown}"
        );
        assert!(shown.contains("role=\"alert\">&lt;b&gt;"), "{shown}");
        let shown = notice(Place::Outside, "<i>", "<u>");
        assert!(!shown.contains("<i>") && !shown.contains("<u>"), "{shown}");
    }

    #[test]
    fn nothing_stands_in_a_page_that_the_policy_forbids() {
        for shown in [login("/dashboard", None), switched_off()] {
            assert!(
                !shown.contains("style=") && !shown.contains("<style"),
                "{shown}"
            );
            assert!(
                !shown.contains("http:") && !shown.contains("https:"),
                "{shown}"
            );
            assert!(!shown.contains("<script"), "{shown}");
        }
    }

    #[test]
    fn who_has_logged_in_finds_their_way_and_out() {
        let shown = page(Place::Dashboard, "Messages", &html! {});
        assert!(
            shown.contains("<a href=\"/dashboard\" aria-current=\"page\">Dashboard</a>"),
            "{shown}"
        );
        assert!(shown.contains("action=\"/dashboard/logout\""), "{shown}");
        assert!(!login("/", None).contains("Log out"));
    }
}

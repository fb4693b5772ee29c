//! Bars that lie: a name, a bar, and what it stands for in words. The words say it all, so the bar itself
//! is no more than an ornament for who cannot see it.
//!
//! Lengths are percentages of the SVG's own width, so that nothing is scaled and text stays text.

use maud::{Markup, html};

/// One bar.
pub(super) struct Bar {
    pub(super) name: Markup,
    /// Parts from the left, each with its class and a share of the whole length, 0 to 1.
    pub(super) parts: Vec<(&'static str, f64)>,
    /// What it stands for.
    pub(super) value: String,
    /// More about it, in small.
    pub(super) note: String,
}

/// Bars below each other.
pub(super) fn bars(label: &str, bars: &[Bar]) -> Markup {
    html! {
        ul.bars aria-label=(label) {
            @for bar in bars {
                li {
                    span.name { (bar.name) }
                    span.value { b { (bar.value) } " " small { (bar.note) } }
                    svg.bar aria-hidden="true" focusable="false" {
                        rect.track width="100%" height="100%" rx="3" {}
                        @for (class, from, length) in laid(&bar.parts) {
                            rect class=(class) x=(percent(from)) width=(percent(length)) height="100%" rx="3" {}
                        }
                    }
                }
            }
        }
    }
}

/// Each part with where it begins; none goes beyond the end.
fn laid(parts: &[(&'static str, f64)]) -> Vec<(&'static str, f64, f64)> {
    let mut from = 0.0;
    let parts = parts.iter().map(|(class, length)| {
        let length = length.clamp(0.0, 1.0 - from);
        let part = (*class, from, length);
        from += length;
        part
    });
    parts.filter(|(_, _, length)| *length > 0.0).collect()
}

/// A share as an SVG length.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}%")
}

/// `part` of `whole`, 0 to 1; 0 of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    // What is drawn is no exact figure.
    (part as f64 / whole as f64).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_end_with_the_bar() {
        let parts = [("one", 0.5), ("none", 0.0), ("other", 0.75), ("late", 0.1)];
        assert_eq!(laid(&parts), [("one", 0.0, 0.5), ("other", 0.5, 0.5)]);
    }

    #[test]
    fn lengths_are_short_percentages() {
        for (part, whole, want) in [
            (0, 0, "0%"),
            (1, 1, "100%"),
            (1, 8, "12.5%"),
            (2, 3, "66.667%"),
        ] {
            assert_eq!(percent(share(part, whole)), want);
        }
        assert_eq!(share(u64::MAX, 1), 1.0);
    }

    #[test]
    fn a_name_is_text_whatever_it_looks_like() {
        let name = html! { ("<script>") };
        let bar = Bar {
            name,
            parts: vec![],
            value: "<b>".to_owned(),
            note: String::new(),
        };
        let shown = bars("\"x\"", &[bar]).into_string();
        assert!(
            shown.contains("&lt;script&gt;") && shown.contains("&lt;b&gt;"),
            "{shown}"
        );
        assert!(shown.contains("aria-label=\"&quot;x&quot;\""), "{shown}");
    }
}

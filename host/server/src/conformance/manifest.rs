//! What a component says of itself.

use countersign_runtime::{GrantError, Observed, ProviderManifest, ProviderNeed, StartError};

use super::{Outcome, failed, ok};

/// `granted` is what would keep its own hosts from being granted.
pub(super) fn judge(
    manifest: &ProviderManifest,
    observed: &Observed,
    granted: Option<&StartError>,
) -> Outcome {
    const HELP: &str = "the bounds are in the doc lines of wit/sender.wit";
    if observed.requests > 0
        || observed.signature_checks > 0
        || !observed.settings.is_empty()
        || !observed.lines.is_empty()
    {
        let came = "it calls the host";
        return failed(
            "`describe` uses no import",
            came,
            "return what is always so",
        );
    }
    if let Some(StartError::Grant(
        error @ (GrantError::OwnNetwork { .. } | GrantError::NoHost { .. }),
    )) = granted
    {
        return failed("hosts that can be granted", error.to_string(), HELP);
    }
    for (kind, needs) in [
        ("setting", &manifest.settings),
        ("credential", &manifest.credentials),
    ] {
        if let Some(came) = wrong_need(kind, needs) {
            return failed("each with a name and a sentence", came, HELP);
        }
    }
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    ok(format!(
        "{}, {}, {}",
        count(manifest.settings.len(), "setting"),
        count(manifest.credentials.len(), "credential"),
        count(manifest.hosts.len(), "host")
    ))
}

/// The first setting or credential that is not as the WIT wants it.
fn wrong_need(kind: &str, needs: &[ProviderNeed]) -> Option<String> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    needs.iter().enumerate().find_map(|(index, need)| {
        let (name, sentence) = (&need.name, need.description.trim());
        // How long names are is the host's to judge, when it asks.
        if !name.bytes().all(plain) {
            return Some(format!(
                "the {kind} `{name}` is not lower-case letters, digits and hyphens"
            ));
        }
        if needs[..index].iter().any(|other| other.name == *name) {
            return Some(format!("the {kind} `{name}` is there twice"));
        }
        if !(1..=256).contains(&sentence.len()) {
            return Some(format!(
                "the {kind} `{name}` has no sentence of at most 256 bytes for the operator"
            ));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(name: &str, description: &str) -> ProviderNeed {
        ProviderNeed {
            name: name.to_owned(),
            description: description.to_owned(),
            required: false,
        }
    }

    fn manifest(settings: Vec<ProviderNeed>) -> ProviderManifest {
        ProviderManifest {
            name: "acme-sms".to_owned(),
            version: "0.1.0".to_owned(),
            settings,
            credentials: vec![need("api-key", "An API key.")],
            hosts: vec!["api.example.com".to_owned()],
            tells_status: false,
        }
    }

    #[track_caller]
    fn check_failed(outcome: &Outcome, words: &str) {
        match outcome {
            Outcome::Failed { came, .. } => assert!(came.contains(words), "{came}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_manifest_has_names_and_sentences_that_an_operator_can_use() {
        let idle = Observed::default();
        let of = |settings| judge(&manifest(settings), &idle, None);
        let good = of(vec![need("from", "The sender.")]);
        assert_eq!(good, ok("1 setting, 1 credential, 1 host"));
        for (settings, words) in [
            (vec![need("base_url", "Where.")], "`base_url` is not"),
            (vec![need("from", " ")], "no sentence"),
            (vec![need("from", &"x".repeat(257))], "no sentence"),
            (vec![need("a", "A."), need("a", "A.")], "twice"),
        ] {
            check_failed(&of(settings), words);
        }
    }

    #[test]
    fn a_manifest_is_the_same_whoever_asks_and_opens_no_network() {
        let asking = Observed {
            settings: vec!["from".to_owned()],
            ..Observed::default()
        };
        let judged = judge(&manifest(Vec::new()), &asking, None);
        check_failed(&judged, "calls the host");
        let error = StartError::Grant(GrantError::OwnNetwork {
            provider: "acme".to_owned(),
            entry: "10.0.0.1".to_owned(),
        });
        let idle = Observed::default();
        let judged = judge(&manifest(Vec::new()), &idle, Some(&error));
        check_failed(&judged, "10.0.0.1");
    }
}

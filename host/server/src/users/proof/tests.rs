use super::*;
use crate::testing::keyring;

const AT: UnixMillis = UnixMillis(1_769_860_800_123);

struct Signed {
    _folder: tempfile::TempDir,
    keyring: Arc<Keyring>,
    proofs: Proofs,
}

fn settings() -> ProofSettings {
    ProofSettings {
        issuer: "https://2fa.example".to_owned(),
        audience: "shop".to_owned(),
        time: Duration::from_secs(300),
    }
}

fn signed() -> Signed {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring(folder.path());
    Signed {
        _folder: folder,
        proofs: Proofs::new(keyring.clone(), settings(), UnixMillis(0)),
        keyring,
    }
}

fn user(id: &str) -> UserId {
    id.parse().expect("an id")
}

impl Signed {
    fn proof(&self) -> String {
        let proof = self.proofs.issue(&user("u1"), &["otp", "sms"], [7; 16], AT);
        proof.expect("signed")
    }

    fn holds(&self, text: &str, now: UnixMillis) -> bool {
        self.proofs.check(text, &user("u1"), now).is_some()
    }

    /// Anything at all, signed with the right key.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let key = self.keyring.signing_key().expect("a key");
        let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

/// The parts of a proof, as JSON.
fn parts(text: &str) -> [Value; 2] {
    let mut parts = text.split('.');
    [(); 2].map(|()| {
        let part = parts.next().expect("a part");
        let json = URL_SAFE_NO_PAD.decode(part).expect("base64url");
        serde_json::from_slice(&json).expect("JSON")
    })
}

#[test]
fn r42_a_proof_says_who_showed_what_when_and_to_whom() {
    let signed = signed();
    let proof = signed.proof();
    let key = signed.keyring.signing_key().expect("a key");
    let header = json!({"alg": "EdDSA", "kid": key.id(), "typ": "countersign-proof+jwt"});
    let claims = json!({
        "iss": "https://2fa.example", "aud": "shop", "sub": "u1", "iat": 1_769_860_800,
        "exp": 1_769_861_100, "jti": "07".repeat(16), "amr": ["otp", "sms"],
    });
    assert_eq!(parts(&proof), [header, claims]);
    let proved = signed.proofs.check(&proof, &user("u1"), AT);
    let want = FactorProof {
        id: "07".repeat(16),
        made: UnixMillis(1_769_860_800_000),
        ends: UnixMillis(1_769_861_100_000),
    };
    assert_eq!(proved, Some(want));
    assert_eq!(proof, signed.proof(), "a repeat is the same text");
}

#[test]
fn r42_a_proof_holds_for_five_minutes() {
    let signed = signed();
    let proof = signed.proof();
    let second = |seconds: u64| UnixMillis(1_769_860_800_000 + seconds * 1_000);
    assert!(signed.holds(&proof, second(0)));
    assert!(signed.holds(&proof, UnixMillis(second(300).0 - 1)));
    assert!(!signed.holds(&proof, second(300)));
    assert!(!signed.holds(&proof, UnixMillis(second(0).0 - 1)));
    assert!(!signed.holds(&proof, UnixMillis(0)));
    assert!(!signed.holds(&proof, UnixMillis(u64::MAX)));
}

#[test]
fn a_proof_from_before_a_restore_is_void() {
    let signed = signed();
    let proof = signed.proof();
    let restored_at = |restored| {
        let proofs = Proofs::new(signed.keyring.clone(), settings(), restored);
        proofs.check(&proof, &user("u1"), AT).is_some()
    };
    // A proof tells the second.
    let second = AT.0 / 1_000 * 1_000;
    assert!(restored_at(UnixMillis(second + 999)));
    assert!(!restored_at(UnixMillis(second + 1_000)));
}

#[test]
fn a_longer_time_is_not_believed_and_a_shorter_one_counts_at_once() {
    let mut signed = signed();
    let [header, mut claims] = parts(&signed.proof());
    claims["exp"] = json!(u64::MAX);
    let long = signed.sign(&header, &claims);
    assert!(signed.holds(&long, AT + Duration::from_secs(299)));
    assert!(!signed.holds(&long, AT + Duration::from_secs(300)));
    let proof = signed.proof();
    let with = |time| {
        let settings = ProofSettings { time, ..settings() };
        Proofs::new(signed.keyring.clone(), settings, UnixMillis(0))
    };
    let (short, hour) = (
        with(Duration::from_secs(60)),
        with(Duration::from_secs(3_600)),
    );
    assert_eq!(
        hour.issue(&user("u1"), &["otp", "sms"], [7; 16], AT),
        Some(proof.clone())
    );
    signed.proofs = short;
    assert!(signed.holds(&proof, AT + Duration::from_secs(59)));
    assert!(!signed.holds(&proof, AT + Duration::from_secs(60)));
}

#[test]
fn r42_a_proof_is_one_users_alone() {
    let signed = signed();
    let proof = signed.proof();
    for other in ["u2", "u", "u11", "U1"] {
        assert_eq!(
            signed.proofs.check(&proof, &user(other), AT),
            None,
            "{other}"
        );
    }
}

#[test]
fn r42_no_other_algorithm_type_issuer_or_audience_holds_even_when_signed() {
    let signed = signed();
    let [header, claims] = parts(&signed.proof());
    assert!(
        signed.holds(&signed.sign(&header, &claims), AT),
        "the test signs well"
    );
    let kid = header["kid"].clone();
    for changed in [
        json!({"alg": "none", "kid": kid, "typ": "countersign-proof+jwt"}),
        json!({"alg": "HS256", "kid": kid, "typ": "countersign-proof+jwt"}),
        json!({"alg": "eddsa", "kid": kid, "typ": "countersign-proof+jwt"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "JWT"}),
        json!({"alg": "EdDSA", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "countersign-proof+jwt"}),
        json!({"alg": "EdDSA", "kid": "", "typ": "countersign-proof+jwt"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "countersign-proof+jwt", "crit": ["x"]}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "countersign-proof+jwt", "jwk": {}}),
        json!([]),
    ] {
        assert!(
            !signed.holds(&signed.sign(&changed, &claims), AT),
            "{changed}"
        );
    }
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("other")),
        ("aud", json!(["shop", "other"])),
        ("sub", json!(["u1"])),
        ("iat", json!("1769860800")),
        ("iat", json!(-1)),
        ("exp", json!(1_769_860_800)),
        ("exp", json!(null)),
        ("jti", json!(1)),
        ("amr", json!("otp")),
        ("nbf", json!(0)),
    ] {
        let mut changed = claims.clone();
        changed[name] = value;
        assert!(
            !signed.holds(&signed.sign(&header, &changed), AT),
            "{changed}"
        );
    }
    for name in ["iss", "aud", "sub", "iat", "exp", "jti", "amr"] {
        let mut changed = claims.clone();
        changed.as_object_mut().expect("an object").remove(name);
        assert!(
            !signed.holds(&signed.sign(&header, &changed), AT),
            "without {name}"
        );
    }
}

#[test]
fn r42_a_proof_with_any_byte_changed_does_not_hold() {
    let signed = signed();
    let proof = signed.proof();
    for at in 0..proof.len() {
        let mut changed = proof.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(!signed.holds(&changed, AT), "byte {at}");
    }
    let unsigned = &proof[..=proof.rfind('.').expect("a dot")];
    let long = format!("{proof}{}", "A".repeat(BYTES_MAX));
    for wrong in [
        "",
        ".",
        "..",
        "...",
        unsigned,
        &format!("{proof}."),
        &format!("{proof}="),
        &long,
    ] {
        assert!(!signed.holds(wrong, AT), "{wrong}");
    }
}

#[test]
fn r42_only_a_key_of_this_servers_signs() {
    let (signed, other) = (signed(), signed());
    assert!(!signed.holds(&other.proof(), AT));
    // Even under the right key's name.
    let [mut header, claims] = parts(&other.proof());
    header["kid"] = parts(&signed.proof())[0]["kid"].clone();
    assert!(!signed.holds(&other.sign(&header, &claims), AT));
}

#[tokio::test]
async fn r42_after_a_rotation_the_old_key_is_shown_and_believed_for_a_day_and_no_longer() {
    let signed = signed();
    let (_store_folder, store) = crate::testing::store();
    signed.keyring.bind(&store).await.expect("bound");
    let old = signed.proof();
    let ids = |now| {
        let set = signed.proofs.key_set(now);
        let keys = set["keys"].as_array().expect("keys").clone();
        let ids = keys
            .iter()
            .map(|key| key["kid"].as_str().expect("a name").to_owned());
        ids.collect::<Vec<_>>()
    };
    let before = ids(AT);
    assert_eq!(before.len(), 1);
    let entropy = countersign_types::SystemEntropy;
    signed
        .keyring
        .rotate_in_use(&store, &entropy)
        .await
        .expect("rotated");
    assert!(signed.holds(&signed.proof(), AT));
    assert_ne!(parts(&signed.proof())[0]["kid"], parts(&old)[0]["kid"]);
    // The store's newest commit was at 0, and with it the rotation.
    let retired = UnixMillis(0) + Duration::from_secs(24 * 3_600 + 5 * 60);
    let just_before = UnixMillis(retired.0 - 1);
    assert_eq!(ids(just_before).len(), 2);
    assert_eq!(
        ids(just_before)[1],
        before[0],
        "the one that signs comes first"
    );
    assert_eq!(ids(retired).len(), 1);
    assert!(!signed.holds(&old, AT), "its key has retired");
}

#[test]
fn the_key_set_has_the_public_half_alone() {
    let signed = signed();
    let key = signed.keyring.signing_key().expect("a key");
    let want = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public()),
        "kid": key.id(), "alg": "EdDSA", "use": "sig",
    }]});
    assert_eq!(signed.proofs.key_set(AT), want);
}

#[test]
fn an_id_of_any_printable_text_comes_back_as_it_was() {
    let signed = signed();
    for id in ["ä\"\\/", "用户", &"\u{10ffff}".repeat(32)] {
        let proof = signed
            .proofs
            .issue(&user(id), &["otp"], [1; 16], AT)
            .expect("signed");
        assert_eq!(parts(&proof)[1]["sub"], id);
        assert!(signed.proofs.check(&proof, &user(id), AT).is_some(), "{id}");
    }
}

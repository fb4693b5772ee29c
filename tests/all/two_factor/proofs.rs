//! Proofs as others check them: by the published keys, with a library that is not ours.

use countersign_tests::{FakeTwilio, Server, check_proof, phone, totp};
use serde_json::{Value, json};

use super::start;

const KEY_SET: &str = "/.well-known/jwks.json";

fn key_set(server: &Server) -> String {
    format!("http://{}{KEY_SET}", server.address())
}

#[tokio::test]
async fn r42_a_proof_is_checked_by_another_library_with_the_published_keys() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let url = key_set(&server);
    let checked = check_proof(&url, "countersign", "countersign", &enrolled.proof).await;
    let checked = checked.expect_success().json();
    let (header, claims) = (&checked["header"], &checked["claims"]);
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(header["typ"], "countersign-proof+jwt");
    assert_eq!(claims["sub"], "user-1");
    assert_eq!(claims["amr"], json!(["sms"]));
    let time = |name: &str| claims[name].as_u64().unwrap();
    assert_eq!(time("exp") - time("iat"), 300);

    // Whom it is not for, and who has not said it.
    for (issuer, audience) in [("countersign", "other"), ("other", "countersign")] {
        let refused = check_proof(&url, issuer, audience, &enrolled.proof).await;
        refused.expect_refusal(&["Invalid"]);
    }
    // Another server's keys.
    let other = Server::start(&twilio).await;
    let url = key_set(&other);
    let refused = check_proof(&url, "countersign", "countersign", &enrolled.proof).await;
    refused.expect_refusal(&["PyJWKClientError"]);
}

#[tokio::test]
async fn r42_every_method_says_what_it_was_and_each_proof_has_its_own_name() {
    let (twilio, server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let backup = user.prove(&enrolled.backup_codes[0]).await;
    let other = server.user("user-2");
    let secret = other.enrol_totp().await;
    let app = other.prove(&totp(&secret, 1)).await;
    let url = key_set(&server);
    let mut names = Vec::new();
    for (proof, methods) in [
        (&enrolled.proof, json!(["sms"])),
        (&backup, json!(["otp"])),
        (&app, json!(["otp"])),
    ] {
        let checked = check_proof(&url, "countersign", "countersign", proof).await;
        let claims = checked.expect_success().json()["claims"].clone();
        assert_eq!(claims["amr"], methods);
        names.push(claims["jti"].as_str().unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn r42_the_keys_are_public_and_a_rotation_adds_one() {
    let (twilio, mut server) = start().await;
    let user = server.user("user-1");
    let enrolled = user.enrol(&twilio, &phone(1)).await;
    let keys = async |server: &Server| {
        let set = server.without_key().get(KEY_SET).await.expect_status(200);
        assert_eq!(set.header("content-type"), Some("application/jwk-set+json"));
        assert_eq!(set.header("cache-control"), Some("public, max-age=300"));
        set.json()["keys"].as_array().unwrap().clone()
    };
    let before = keys(&server).await;
    let [key] = before.as_slice() else {
        panic!("one key, not {}", before.len());
    };
    let names = |key: &Value| key.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    // Nothing of the secret half.
    assert_eq!(names(key), ["alg", "crv", "kid", "kty", "use", "x"]);

    server.run(&["keyring", "rotate"]).await.expect_success();
    let after = keys(&server).await;
    assert_eq!(after.len(), 2);
    assert_eq!(after[1], before[0], "the new one comes first");
    let url = key_set(&server);
    let old = check_proof(&url, "countersign", "countersign", &enrolled.proof).await;
    let old = old.expect_success().json();
    assert_eq!(old["header"]["kid"], before[0]["kid"]);
    let new = user.prove(&enrolled.backup_codes[0]).await;
    let new = check_proof(&url, "countersign", "countersign", &new).await;
    let new = new.expect_success().json();
    assert_eq!(new["header"]["kid"], after[0]["kid"]);
    // A proof from before the rotation is one here, too; after a restart as well.
    server.restart().await;
    assert_eq!(keys(&server).await, after);
    let user = server.user("user-1").proving(&enrolled.proof);
    user.new_backup_codes().await.expect_success();
}

#[tokio::test]
async fn issuer_audience_and_time_are_settings() {
    let twilio = FakeTwilio::start().await;
    let server = Server::builder()
        .twilio(&twilio)
        .env("COUNTERSIGN_PUBLIC_URL", "https://2fa.example")
        .env("COUNTERSIGN_TWO_FACTOR_AUDIENCE", "shop")
        // As long as the other library may take to look at one.
        .env("COUNTERSIGN_TWO_FACTOR_PROOF_SECONDS", "299")
        .start()
        .await;
    let enrolled = server.user("user-1").enrol(&twilio, &phone(1)).await;
    let url = key_set(&server);
    let checked = check_proof(&url, "https://2fa.example", "shop", &enrolled.proof).await;
    let checked = checked.expect_success().json();
    let time = |name: &str| checked["claims"][name].as_u64().unwrap();
    assert_eq!(time("exp") - time("iat"), 299);
    // Whoever has none is told how fresh it must be.
    let refused = server.user("user-1").totp().await.expect_problem(403);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.ends_with(r#"max_age="299""#), "{challenge}");
    assert!(refused.text().contains("good for 299 seconds"));
}

#[tokio::test]
async fn r22_a_verification_of_a_bare_number_proves_nothing() {
    let (twilio, server) = start().await;
    server.user("user-1").enrol(&twilio, &phone(1)).await;
    server.send(&phone(1)).await.expect_success();
    let code = twilio.nth_code(&phone(1), 2).await;
    // A code of a public purpose is no login's.
    let user = server.user("user-1");
    user.login(&code).await.expect_status(400);
    let verified = server.verify(&phone(1), &code).await;
    verified.expect_body(200, &json!({ "success": true }));
}

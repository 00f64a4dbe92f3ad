//! Tests with a fake API server that counts its reviews and can hang.

use std::collections::HashMap;

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

fn token(claims: &Value) -> String {
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOi.{claims}.c2ln")
}

#[test]
fn only_unexpired_web_tokens_are_reviewed() {
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    for claims in [json!({}), json!({"exp": 1001}), json!({"exp": 990.5})] {
        assert!(may_be_valid(&token(&claims), now), "{claims}");
    }
    let long = format!("{}.e30.c", "a".repeat(MAX_TOKEN_BYTES));
    let (past, list) = (token(&json!({"exp": 900})), token(&json!([])));
    for other in [
        "",
        "a.b",
        "a..c",
        "a.e30.",
        "a.e30.c.d",
        "a.e30.c d",
        "hutch_1_2",
        "a.b.c",
        &long,
        &past,
        &list,
    ] {
        assert!(!may_be_valid(other, now), "{other}");
    }
}

/// Answers reviews. A token with a `sub` is valid, and its user may use every
/// namespace but `forbidden`. The review of any other token hangs.
#[derive(Clone, Default)]
struct Server(Arc<Lock<HashMap<&'static str, usize>>>);

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request| server.clone().answer(request));
        Client::new(service, "default")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let path = request.uri().path();
        let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
        let body = request
            .into_body()
            .collect_bytes()
            .await
            .unwrap_or_default();
        let mut review: Value = serde_json::from_slice(&body)?;
        let (kind, status) = if kind == "tokenreviews" {
            let claims = review["spec"]["token"].as_str().unwrap_or_default();
            let claims = claims.split('.').nth(1).unwrap_or_default();
            let claims = URL_SAFE_NO_PAD.decode(claims).unwrap_or_default();
            let claims: Value = serde_json::from_slice(&claims)?;
            let user = json!({"username": claims["sub"]});
            (
                "tokens",
                json!({"authenticated": claims["sub"].is_string(), "user": user}),
            )
        } else {
            let namespace = &review["spec"]["resourceAttributes"]["namespace"];
            ("rights", json!({"allowed": namespace != "forbidden"}))
        };
        *self.0.lock().entry(kind).or_default() += 1;
        // In paused time, this lets other requests arrive first.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if status["authenticated"] == false {
            std::future::pending::<()>().await;
        }
        review["status"] = status;
        Ok(Response::new(Body::from(review.to_string().into_bytes())))
    }

    fn asked(&self, kind: &str) -> usize {
        self.0.lock().get(kind).copied().unwrap_or_default()
    }
}

fn of(user: &str) -> String {
    token(&json!({"sub": user}))
}

#[tokio::test(start_paused = true)]
async fn a_token_is_reviewed_once_and_its_user_once_per_namespace() {
    let server = Server::default();
    let (reviews, token) = (TokenReviews::new(server.client()), of("me"));
    let all = (0..50).map(|_| reviews.principal(&token, "here"));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((server.asked("tokens"), server.asked("rights")), (1, 1));
    let refused = reviews.principal(&token, "forbidden").await;
    assert!(
        matches!(refused, Err(AccessError::Forbidden(_))),
        "{refused:?}"
    );
    assert!(reviews.principal(&token, "there").await.is_ok());
    assert_eq!((server.asked("tokens"), server.asked("rights")), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn guesses_do_not_block_tokens_that_were_valid_before() {
    let server = Server::default();
    let (reviews, valid) = (TokenReviews::new(server.client()), of("me"));
    assert!(reviews.principal(&valid, "here").await.is_ok());
    tokio::time::advance(ALLOWED_TTL).await;
    let guesses: Vec<_> = (0..3 * MAX_REVIEWS)
        .map(|guess| token(&json!({"jti": guess})))
        .collect();
    let guesses = guesses.iter().map(|guess| reviews.principal(guess, "here"));
    let (guessed, renewed) = tokio::join!(futures::future::join_all(guesses), async {
        // All guesses are waiting by now.
        tokio::time::sleep(Duration::from_secs(1)).await;
        reviews.principal(&valid, "here").await
    });
    assert!(renewed.is_ok());
    assert!(
        guessed
            .iter()
            .all(|guessed| *guessed == Err(AccessError::Unavailable))
    );
    assert_eq!(server.asked("tokens"), 2 + MAX_REVIEWS);
}

#[tokio::test(start_paused = true)]
async fn the_namespaces_of_one_user_are_reviewed_one_at_a_time() {
    let server = Server::default();
    let (reviews, token) = (TokenReviews::new(server.client()), of("me"));
    reviews.principal(&token, "here").await.ok();
    let names: Vec<_> = (0..2 * MAX_REVIEWS).map(|name| name.to_string()).collect();
    let many = names.iter().map(|name| reviews.principal(&token, name));
    let mut many = std::pin::pin!(futures::future::join_all(many));
    assert!(futures::poll!(&mut many).is_pending());
    assert_eq!(reviews.known_slots.available_permits(), MAX_REVIEWS - 1);
    assert!(many.await.iter().all(Result::is_ok));
}

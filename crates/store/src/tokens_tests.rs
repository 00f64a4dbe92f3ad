//! An API server that is counted, and can be made to hang.

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
fn the_api_server_is_asked_about_web_tokens_only_that_are_not_past() {
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    for claims in [json!({}), json!({"exp": 1001}), json!({"exp": 990.5})] {
        assert!(may_be_good(&token(&claims), now), "{claims}");
    }
    let long = format!("{}.e30.c", "a".repeat(LONGEST));
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
        assert!(!may_be_good(other, now), "{other}");
    }
}

/// Answers reviews: tokens with a `sub` are good, and that user may use every
/// namespace but `forbidden`; others hang.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<HashMap<&'static str, usize>>>);

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
        *lock(&self.0).entry(kind).or_default() += 1;
        // Long enough for others to come, in time that is not real.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if status["authenticated"] == false {
            std::future::pending::<()>().await;
        }
        review["status"] = status;
        Ok(Response::new(Body::from(review.to_string().into_bytes())))
    }

    fn asked(&self, kind: &str) -> usize {
        lock(&self.0).get(kind).copied().unwrap_or_default()
    }
}

fn of(user: &str) -> String {
    token(&json!({"sub": user}))
}

#[tokio::test(start_paused = true)]
async fn requests_with_the_same_token_ask_once_and_each_namespace_once_more() {
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
async fn guesses_take_no_place_from_tokens_that_were_good_before() {
    let server = Server::default();
    let (reviews, good) = (TokenReviews::new(server.client()), of("me"));
    assert!(reviews.principal(&good, "here").await.is_ok());
    tokio::time::advance(BELIEVED.0).await;
    let guesses: Vec<_> = (0..3 * AT_ONCE)
        .map(|guess| token(&json!({"jti": guess})))
        .collect();
    let guesses = guesses.iter().map(|guess| reviews.principal(guess, "here"));
    let (guessed, renewed) = tokio::join!(futures::future::join_all(guesses), async {
        // When they are all there.
        tokio::time::sleep(Duration::from_secs(1)).await;
        reviews.principal(&good, "here").await
    });
    assert!(renewed.is_ok());
    assert!(
        guessed
            .iter()
            .all(|guessed| *guessed == Err(AccessError::Unavailable))
    );
    assert_eq!(server.asked("tokens"), 2 + AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn a_user_of_many_namespaces_is_asked_about_one_after_the_other() {
    let server = Server::default();
    let (reviews, token) = (TokenReviews::new(server.client()), of("me"));
    reviews.principal(&token, "here").await.ok();
    let names: Vec<_> = (0..2 * AT_ONCE).map(|name| name.to_string()).collect();
    let many = names.iter().map(|name| reviews.principal(&token, name));
    let mut many = std::pin::pin!(futures::future::join_all(many));
    assert!(futures::poll!(&mut many).is_pending());
    assert_eq!(reviews.good.available_permits(), AT_ONCE - 1);
    assert!(many.await.iter().all(Result::is_ok));
}

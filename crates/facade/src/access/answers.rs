//! Room for answers: what a client takes its time to read lies in memory for as long.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::room::Room;
use super::visit::{Contract, Visit};

/// Bytes of an answer that take no room, as everybody with a connection can have
/// them: what a client needs to hear when there is none.
const SMALL: u64 = 64 << 10;

/// Holds the room of the answer, instead of that of the request's body, which has
/// been worked on; an answer without room is refused. It was made by then, in one
/// go, and so there are never more without room than the process has threads.
pub async fn fit(State(contract): State<Contract>, request: Request, next: Next) -> Response {
    let room = request.extensions().get::<Arc<Room>>().cloned();
    let visit = request.extensions().get::<Arc<Visit>>().cloned();
    let answer = next.run(request).await;
    let Some(room) = room else { return answer };
    let hint = answer.body().size_hint();
    let bytes = hint.upper().unwrap_or(hint.lower());
    match room.take(if bytes > SMALL { bytes } else { 0 }) {
        Ok(()) => answer,
        Err(refusal) => {
            let subject = visit.as_ref().and_then(|visit| visit.subject());
            contract.refuse(&refusal, subject)
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::super::room::Rooms;
    use super::*;
    use hutch_core::access::Scope;

    #[tokio::test]
    async fn an_answer_without_room_is_refused_and_a_small_one_needs_none() {
        let contract = Contract {
            scope: Scope::Tenant,
            subject: |_| None,
            failure: |code, _, _| {
                let code = axum::http::StatusCode::from_u16(code);
                code.unwrap_or_default().into_response()
            },
        };
        let answer = |bytes: u64| get(move || async move { vec![0; bytes as usize] });
        let routes = Router::new()
            .route("/small", answer(SMALL))
            .route("/large", answer(SMALL + 1))
            .layer(from_fn_with_state(contract, fit));
        let rooms = Rooms::new(4 * SMALL, SMALL);
        let asked = async |path: &str, room: &Arc<Room>| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = path.parse().unwrap();
            request.extensions_mut().insert(room.clone());
            let Ok(answer) = routes.clone().oneshot(request).await;
            answer.status().as_u16()
        };
        let one = Arc::new(rooms.room(Some("a")));
        // What its body took is given back first.
        one.take(SMALL).unwrap();
        assert_eq!(asked("/large", &one).await, 200);
        let other = Arc::new(rooms.room(Some("a")));
        assert_eq!(asked("/large", &other).await, 429);
        assert_eq!(asked("/small", &other).await, 200);
        let (taken, nobody) = (rooms.room(None), Arc::new(rooms.room(None)));
        taken.take(2 * SMALL).unwrap();
        assert_eq!(asked("/large", &nobody).await, 503);
        drop((one, taken));
        assert_eq!(asked("/large", &other).await, 200);
    }
}

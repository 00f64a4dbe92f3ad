//! Memory of responses. A response stays in memory until its client has read it.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::context::{Contract, RequestContext};
use super::memory::MemoryPermit;

/// Responses up to this size need no reservation, so that errors still reach a client
/// when the memory budget is used up. Any connection can cost so many bytes anyway.
const MAX_UNRESERVED_BYTES: u64 = 64 << 10;

/// Replaces the reservation for the request's body, which is no longer in memory, by one
/// for the response. Without memory for it the response is replaced by a refusal.
///
/// The response exists before its reservation. It is built without an await in between,
/// so there are never more unreserved responses than threads in the process.
pub async fn reserve_response(
    State(contract): State<Contract>,
    request: Request,
    next: Next,
) -> Response {
    let memory = request.extensions().get::<Arc<MemoryPermit>>().cloned();
    let context = request.extensions().get::<Arc<RequestContext>>().cloned();
    let response = next.run(request).await;
    let Some(memory) = memory else {
        return response;
    };
    let hint = response.body().size_hint();
    let bytes = hint.upper().unwrap_or(hint.lower());
    let reserved = if bytes > MAX_UNRESERVED_BYTES {
        bytes
    } else {
        0
    };
    match memory.reserve(reserved) {
        Ok(()) => response,
        Err(refusal) => {
            let subject = context.as_ref().and_then(|context| context.subject());
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

    use super::super::memory::MemoryBudget;
    use super::*;
    use hutch_core::access::Scope;

    #[tokio::test]
    async fn a_response_without_memory_is_refused_and_a_small_one_needs_none() {
        let contract = Contract {
            scope: Scope::Tenant,
            subject: |_| None,
            failure: |code, _, _| {
                let code = axum::http::StatusCode::from_u16(code);
                code.unwrap_or_default().into_response()
            },
        };
        let of_size = |bytes: u64| get(move || async move { vec![0; bytes as usize] });
        let routes = Router::new()
            .route("/small", of_size(MAX_UNRESERVED_BYTES))
            .route("/large", of_size(MAX_UNRESERVED_BYTES + 1))
            .layer(from_fn_with_state(contract, reserve_response));
        let budget = MemoryBudget::new(4 * MAX_UNRESERVED_BYTES, MAX_UNRESERVED_BYTES);
        let status = async |path: &str, memory: &Arc<MemoryPermit>| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = path.parse().unwrap();
            request.extensions_mut().insert(memory.clone());
            let Ok(response) = routes.clone().oneshot(request).await;
            response.status().as_u16()
        };
        let one = Arc::new(budget.permit(Some("a")));
        // The reservation for the body is released first.
        one.reserve(MAX_UNRESERVED_BYTES).unwrap();
        assert_eq!(status("/large", &one).await, 200);
        let other = Arc::new(budget.permit(Some("a")));
        assert_eq!(status("/large", &other).await, 429);
        assert_eq!(status("/small", &other).await, 200);
        let (taken, anonymous) = (budget.permit(None), Arc::new(budget.permit(None)));
        taken.reserve(2 * MAX_UNRESERVED_BYTES).unwrap();
        assert_eq!(status("/large", &anonymous).await, 503);
        drop((one, taken));
        assert_eq!(status("/large", &other).await, 200);
    }
}

//! The description of the API (OpenAPI 3.1), made from the code of its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use tcc_core::protocol;
use tcc_core::wire::{Problem, ProblemCode};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Api, by_hand, list, topics, transactions};

/// The routes under `/v1`, and their description.
pub(super) fn routes() -> (Router<Arc<Api>>, OpenApi) {
    let (routes, mut document) = OpenApiRouter::new()
        .routes(routes!(transactions::begin, list::list))
        .routes(routes!(transactions::show))
        .routes(routes!(transactions::events))
        .routes(routes!(transactions::register))
        .routes(routes!(transactions::confirm))
        .routes(routes!(transactions::cancel))
        .routes(routes!(by_hand::retry))
        .routes(routes!(by_hand::acknowledge))
        .routes(routes!(by_hand::resend))
        .routes(routes!(by_hand::force))
        .routes(routes!(topics::list))
        .routes(routes!(topics::show))
        .routes(routes!(topics::subscribe, topics::unsubscribe))
        .split_for_parts();
    document.info = InfoBuilder::new()
        .title("tcc")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "The coordinator of transactions over several services. Repeating a request is always safe.",
        ))
        .license(None)
        .build();
    let components = document.components.get_or_insert_default();
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    // One of these: where the coordinator has no token, none is asked for.
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])]);
    (routes, document)
}

/// The description of the API, as `/openapi.json` serves it.
#[must_use]
pub fn document() -> OpenApi {
    routes().1
}

/// The problems of a request that changes something.
pub(super) struct Changing;

/// The problems of a request that only asks.
pub(super) struct Asking;

impl IntoResponses for Changing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(|_| true)
    }
}

impl IntoResponses for Asking {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        // There is no body that could be wrong, and nothing that could stand against it.
        problems(|code| !matches!(code.status(), 408 | 409 | 413 | 415))
    }
}

/// The answers that problems come with, each with its codes.
fn problems(which: impl Fn(ProblemCode) -> bool) -> BTreeMap<String, RefOr<Response>> {
    let codes = || ProblemCode::ALL.iter().copied().filter(|code| which(*code));
    let statuses: BTreeSet<u16> = codes().map(ProblemCode::status).collect();
    let answer = |status: u16| {
        let codes: Vec<_> = codes().filter(|code| code.status() == status).map(ProblemCode::as_str).collect();
        let schema = Ref::from_schema_name(Problem::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(format!("A problem: {}", codes.join(", ")));
        (status.to_string(), response.content(protocol::PROBLEM_JSON, content).build().into())
    };
    statuses.into_iter().map(answer).collect()
}

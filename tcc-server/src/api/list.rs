//! Transactions by what they have in common, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use tcc_core::store::{Filter, Page};
use tcc_core::wire::{ProblemCode, TransactionList};
use tcc_core::{Gid, Phase, Timestamp};
use utoipa::IntoParams;

use super::openapi::Asking;
use super::problem::Failure;
use super::{Api, json};
use crate::limits;

/// What is asked of a list, as it is described; it is read one parameter at a time, so that each mistake is named.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is there to be described")]
struct Filters {
    /// Only those in this phase.
    phase: Option<Phase>,
    /// Only those that call for a human, or only those that do not.
    attention: Option<bool>,
    /// Only those whose gid begins so.
    #[param(pattern = "^[A-Za-z0-9_:/-]{0,128}$")]
    prefix: Option<String>,
    /// Only those that call this destination, as in `payment:8082`.
    #[param(max_length = 2048)]
    destination: Option<String>,
    /// Only those begun at or after this moment of the coordinator's clock, as `begun` is shown.
    created_from: Option<i64>,
    /// Only those begun before this moment.
    created_before: Option<i64>,
    /// How many at most; 50 if absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// The `next` of the page before, of a list with the same filters.
    page: Option<String>,
}

/// What a list is of.
#[derive(Debug, Default)]
struct Which {
    filter: Filter,
    destination: Option<String>,
}

/// Transactions by what they have in common, a page at a time.
#[utoipa::path(get, path = "/v1/transactions", params(Filters), responses(
    (status = 200, description = "A page, in the order they were begun", body = TransactionList),
    Asking,
))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    asked: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|bad| Failure::new(ProblemCode::Malformed, bad.body_text()).at("?"))?;
    let (which, page) = parse(&asked)?;
    let _place = api.lists.acquire().await.expect("never closed");
    let (transactions, next) =
        api.coordinator.list(&which.filter, which.destination.as_deref(), page).await?;
    let list = TransactionList { transactions, next: next.map(|at| token(&which, at)) };
    Ok(json(StatusCode::OK, &list))
}

/// Reads the query. No mistake repeats a value: it may be a secret in the wrong place.
fn parse(asked: &[(String, String)]) -> Result<(Which, Page), Failure> {
    let (mut which, mut size, mut page) = (Which::default(), limits::LIST_PAGE, None);
    let filter = &mut which.filter;
    let mut seen = BTreeSet::new();
    for (name, value) in asked {
        if !seen.insert(name) {
            return Err(wrong(ProblemCode::Malformed, name, "is given twice"));
        }
        match name.as_str() {
            "phase" => filter.phase = Some(phase(value)?),
            "attention" => filter.attention = Some(attention(value)?),
            "prefix" => filter.prefix = Some(prefix(value)?),
            "destination" => which.destination = Some(destination(value)?),
            "created_from" => filter.created_from = Some(moment(name, value)?),
            "created_before" => filter.created_before = Some(moment(name, value)?),
            "limit" => size = limit(value)?,
            "page" => page = Some(value),
            unknown => return Err(wrong(ProblemCode::Malformed, unknown, "is no parameter of a list")),
        }
    }
    // The last, for it depends on the filters.
    let after = page.map(|page| position(&which, page)).transpose()?;
    Ok((which, Page { after, size }))
}

fn phase(value: &str) -> Result<Phase, Failure> {
    Phase::ALL.into_iter().find(|phase| phase.as_str() == value).ok_or_else(|| {
        let words = Phase::ALL.map(Phase::as_str).join(", ");
        invalid("phase", &format!("is none of {words}"))
    })
}

fn attention(value: &str) -> Result<bool, Failure> {
    value.parse().map_err(|_| invalid("attention", "is neither true nor false"))
}

fn prefix(value: &str) -> Result<String, Failure> {
    // Every gid begins so; and what a gid begins with is one itself, as far as it goes.
    let fits = value.is_empty() || value.parse::<Gid>().is_ok();
    if fits { Ok(value.to_owned()) } else { Err(invalid("prefix", "is what no gid begins with")) }
}

fn destination(value: &str) -> Result<String, Failure> {
    let fits = !value.is_empty() && value.len() <= tcc_core::limits::ENDPOINT;
    let why = "is no destination, as in payment:8082";
    if fits { Ok(value.to_owned()) } else { Err(invalid("destination", why)) }
}

fn moment(name: &str, value: &str) -> Result<Timestamp, Failure> {
    let why = "is no moment in milliseconds, as `begun` is shown";
    value.parse().map(Timestamp::from_millis).map_err(|_| invalid(name, why))
}

fn limit(value: &str) -> Result<usize, Failure> {
    let most = limits::LONGEST_LIST_PAGE;
    let limit = value.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit.ok_or_else(|| invalid("limit", &format!("is no number from 1 to {most}")))
}

fn invalid(name: &str, why: &str) -> Failure {
    wrong(ProblemCode::Invalid, name, why)
}

fn wrong(code: ProblemCode, name: &str, why: &str) -> Failure {
    // A name that is none of ours may be as long as a head is.
    let name = tcc_core::answer::cut(name);
    Failure::new(code, format!("{name:?} {why}")).at(&format!("?{name}"))
}

/// What the next page is asked for with: where it starts, and a sum over that and the filters, by which another list's
/// token, or one that was never given, is told. It protects nothing: whoever may ask for a page may ask for any.
fn token(which: &Which, at: u64) -> String {
    format!("{at:016x}{:08x}", sum(which, at))
}

fn position(which: &Which, page: &str) -> Result<u64, Failure> {
    let at = page.get(..16).and_then(|at| u64::from_str_radix(at, 16).ok());
    let at = at.filter(|at| token(which, *at) == page);
    at.ok_or_else(|| invalid("page", "is not the `next` of a page of this list, which has these filters"))
}

/// FNV-1a: the same in every process.
fn sum(which: &Which, at: u64) -> u32 {
    let text = format!("{which:?} {at}");
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

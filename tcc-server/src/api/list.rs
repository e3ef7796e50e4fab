//! Transactions by what they have in common, a page at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tcc_core::store::{Filter, Page};
use tcc_core::wire::{ProblemCode, TransactionList};
use tcc_core::{Gid, Phase, Timestamp};

use super::Api;
use super::problem::Failure;
use crate::limits;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    asked: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|bad| Failure::new(ProblemCode::Malformed, bad.body_text()).at("?"))?;
    let (filter, page) = parse(&asked)?;
    let _place = api.lists.acquire().await.expect("never closed");
    let (transactions, next) = api.coordinator.list(&filter, page).await?;
    let list = TransactionList { transactions, next: next.map(|at| token(&filter, at)) };
    let body = serde_json::to_vec(&list).expect("a list has string keys and no failing serializer");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Reads the query. No mistake repeats a value: it may be a secret in the wrong place.
fn parse(asked: &[(String, String)]) -> Result<(Filter, Page), Failure> {
    let (mut filter, mut size, mut page) = (Filter::default(), limits::LIST_PAGE, None);
    let mut seen = BTreeSet::new();
    for (name, value) in asked {
        if !seen.insert(name) {
            return Err(wrong(ProblemCode::Malformed, name, "is given twice"));
        }
        match name.as_str() {
            "phase" => filter.phase = Some(phase(value)?),
            "attention" => filter.attention = Some(attention(value)?),
            "prefix" => filter.prefix = Some(prefix(value)?),
            "created_from" => filter.created_from = Some(moment(name, value)?),
            "created_before" => filter.created_before = Some(moment(name, value)?),
            "limit" => size = limit(value)?,
            "page" => page = Some(value),
            unknown => return Err(wrong(ProblemCode::Malformed, unknown, "is no parameter of a list")),
        }
    }
    // The last, for it depends on the filters.
    let after = page.map(|page| position(&filter, page)).transpose()?;
    Ok((filter, Page { after, size }))
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
fn token(filter: &Filter, at: u64) -> String {
    format!("{at:016x}{:08x}", sum(filter, at))
}

fn position(filter: &Filter, page: &str) -> Result<u64, Failure> {
    let at = page.get(..16).and_then(|at| u64::from_str_radix(at, 16).ok());
    let at = at.filter(|at| token(filter, *at) == page);
    at.ok_or_else(|| invalid("page", "is not the `next` of a page of this list, which has these filters"))
}

/// FNV-1a: the same in every process.
fn sum(filter: &Filter, at: u64) -> u32 {
    let text = format!("{filter:?} {at}");
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

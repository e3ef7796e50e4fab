//! Where one request ends and the next begins: lengths, chunks, and those who hang up.

use super::{Case, Draft, Kind};
use crate::documented::By;
use crate::exchange::{Request, Until};

pub(super) fn spoil(mut draft: Draft) -> Case {
    match draft.kind {
        Kind::HungUp => {
            draft.with_json();
            let mut bytes = draft.request.bytes();
            bytes.truncate(draft.rng.usize(..bytes.len()));
            draft.sent(bytes, By::Wire, Until::HungUp)
        }
        Kind::Length => length(draft),
        Kind::Smuggled => smuggled(draft),
        Kind::Chunks => chunks(draft),
        Kind::Pipelined => pipelined(draft),
        _ => upgrade(draft),
    }
}

fn body(draft: &Draft) -> Vec<u8> {
    if draft.json.is_null() { b"{}".to_vec() } else { draft.json.to_string().into_bytes() }
}

fn length(mut draft: Draft) -> Case {
    let body = body(&draft);
    let told = match draft.rng.u8(..10) {
        0 => (body.len() + 1).to_string(),
        1 => (body.len() - 1).to_string(),
        2 => "0".to_owned(),
        3 => format!("+{}", body.len()),
        4 => format!("-{}", body.len()),
        5 => format!("0x{:x}", body.len()),
        6 => format!("{0}, {0}", body.len()),
        7 => "18446744073709551616".to_owned(),
        8 => String::new(),
        _ => format!("{} ", body.len() * 2),
    };
    draft.request = draft.request.json(body).with("content-length", told);
    // A length too small leaves a rest, which is taken for the head of another request.
    let case = draft.raw(By::Wire, Until::Quiet);
    Case { most: 2, ..case }
}

/// A second request stands where, by one of two lengths, the body of the first is: it must never be answered.
fn smuggled(mut draft: Draft) -> Case {
    let inner = Request::new("GET", "/livez").bytes();
    let chunked = [b"0\r\n\r\n".to_vec(), inner.clone()].concat();
    let told = |length: usize| ("content-length".to_owned(), length.to_string().into_bytes());
    let coded = |coding: &str| ("transfer-encoding".to_owned(), coding.as_bytes().to_vec());
    let (headers, body) = match draft.rng.u8(..9) {
        0 => (vec![told(chunked.len()), coded("chunked")], chunked),
        1 => (vec![coded("chunked"), told(chunked.len())], chunked),
        2 => (vec![told(5), coded("chunked")], chunked),
        3 => (vec![told(0), told(inner.len())], inner),
        4 => (vec![told(inner.len()), told(0)], inner),
        5 => (vec![coded("chunked, identity")], chunked),
        6 => (vec![coded("xchunked"), told(chunked.len())], chunked),
        7 => (vec![coded("identity"), coded("chunked"), told(chunked.len())], chunked),
        _ => (vec![("transfer-encoding ".to_owned(), b"chunked".to_vec()), told(inner.len())], inner),
    };
    draft.request.headers.extend(headers);
    draft.request.headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    draft.request.body = body;
    draft.raw(By::Wire, Until::Quiet)
}

fn chunks(mut draft: Draft) -> Case {
    let body = body(&draft);
    let good = format!("{:x}\r\n{}\r\n0\r\n\r\n", body.len(), String::from_utf8_lossy(&body));
    let sent = match draft.rng.u8(..10) {
        0 => good,
        1 => good.replacen("\r\n", "\n", 1),
        2 => format!("ffffffffffffffff\r\n{good}"),
        3 => format!("10000000000000000\r\n{good}"),
        4 => format!("-1\r\n{good}"),
        5 => format!("{:x};{}\r\n{good}", body.len(), "e".repeat(20_000)),
        6 => good.replace("0\r\n\r\n", &format!("0\r\n{}\r\n", "x: y\r\n".repeat(2000))),
        7 => good.replace("0\r\n\r\n", "0\r\nauthorization: Bearer x\r\ncontent-length: 3\r\n\r\n"),
        8 => "1\r\n{\r\n".repeat(2000),
        _ => format!(" {good}"),
    };
    draft.request = draft.request.json(sent.into_bytes()).with("transfer-encoding", "chunked");
    draft.raw(By::Wire, Until::Quiet)
}

fn pipelined(mut draft: Draft) -> Case {
    draft.with_json();
    let first = draft.request.bytes();
    let again = draft.rng.usize(1..20);
    let probe = Request::new("GET", "/livez").bytes();
    let bytes = [first, probe.repeat(again)].concat();
    let case = draft.sent(bytes, By::Api, Until::Answers(again + 1));
    Case { most: again + 1, ..case }
}

fn upgrade(mut draft: Draft) -> Case {
    draft.with_json();
    let headers: &[(&str, &str)] = match draft.rng.u8(..5) {
        0 => &[("expect", "100-continue")],
        1 => &[("expect", "a-miracle")],
        2 => &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")],
        3 => &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")],
        _ => &[("te", "trailers"), ("trailer", "authorization")],
    };
    for (name, value) in headers {
        draft.request = draft.request.with(name, *value);
    }
    draft.raw(By::Wire, Until::Answers(1))
}

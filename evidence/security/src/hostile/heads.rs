//! Heads that are hostile: methods, paths, queries, headers, tokens.

use super::{Case, Draft, Kind, ROUTES, Shown, wrong_authorization};
use crate::documented::By;
use crate::exchange::Until;
use crate::secrets::TOKEN;

pub(super) fn spoil(mut draft: Draft) -> Case {
    draft.with_json();
    match draft.kind {
        Kind::ContentType => content_type(draft),
        Kind::Encoded => encoded(draft),
        Kind::NoToken => {
            draft.request.headers.retain(|(name, _)| name != "authorization");
            Case { shown: Shown::Wrong, ..draft.answered() }
        }
        Kind::WrongToken => {
            draft.request.headers.retain(|(name, _)| name != "authorization");
            let wrong = wrong_authorization(&mut draft.rng);
            draft.request = draft.request.with("authorization", wrong);
            Case { shown: Shown::Wrong, ..draft.answered() }
        }
        Kind::Control => control(draft),
        Kind::Doubled => doubled(draft),
        Kind::HugeHeader => {
            let length = [1000, 60_000, 70_000, 300_000][draft.rng.usize(..4)];
            let name = ["x-huge", "accept", "cookie", "traceparent"][draft.rng.usize(..4)];
            draft.request = draft.request.with(name, "h".repeat(length));
            draft.raw(By::Wire, Until::Answers(1))
        }
        Kind::ManyHeaders => {
            let count = [50, 95, 101, 1000][draft.rng.usize(..4)];
            for i in 0..count {
                draft.request.headers.push((format!("x-{i}"), b"v".to_vec()));
            }
            draft.raw(By::Wire, Until::Answers(1))
        }
        Kind::Path => path(draft),
        Kind::LongPath => {
            let length = [130, 1000, 60_000, 70_000, 200_000][draft.rng.usize(..5)];
            let piece = ["a", "%2F", "a/", "%C3%A9"][draft.rng.usize(..4)];
            let long = piece.repeat(length / piece.len());
            draft.request.target = format!("/v1/transactions/{long}");
            draft.subject = super::Subject::Nobody;
            draft.raw(By::Wire, Until::Answers(1))
        }
        Kind::Query => query(draft),
        Kind::Method => method(draft),
        _ => version(draft),
    }
}

fn content_type(mut draft: Draft) -> Case {
    const TYPES: [&str; 16] = [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "APPLICATION/JSON",
        "application/json;",
        "application/json, text/plain",
        "application/jsonx",
        "application/json\tx",
        "application/problem+json",
        "application/xml",
        "application/cbor",
        "*/*",
        "application/json;application/json",
        " application/json ; a=b",
    ];
    draft.request.headers.retain(|(name, _)| name != "content-type");
    if draft.rng.u8(..8) > 0 {
        let declared = TYPES[draft.rng.usize(..TYPES.len())];
        draft.request = draft.request.with("content-type", declared);
    }
    draft.answered()
}

/// Nothing is ever decompressed: these bodies are read as they are.
fn encoded(mut draft: Draft) -> Case {
    let coding = ["gzip", "deflate", "br", "zstd", "identity", "gzip, gzip"][draft.rng.usize(..6)];
    draft.request = draft.request.with("content-encoding", coding);
    if draft.rng.bool() && draft.has_body() {
        draft.request.body =
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3".to_vec();
    }
    draft.answered()
}

fn control(mut draft: Draft) -> Case {
    const VALUES: [&[u8]; 9] = [
        b"a\0b",
        b"a\rb",
        b"a\nb",
        b"a\r\nx-forged: 1",
        b"a\r\n folded",
        b"a\x7fb",
        b"\x1b[31m",
        b"\xff\xfe",
        b"a\x0bb",
    ];
    let value = VALUES[draft.rng.usize(..VALUES.len())];
    let name = ["x-any", "traceparent", "content-type", "x\0y", "x\ny", "x y", " x", "x\t", ""]
        [draft.rng.usize(..9)];
    draft.request.headers.push((name.to_owned(), value.to_vec()));
    // Some of it ends the head, or makes a second request of what follows: quiet is awaited, not an answer.
    let case = draft.raw(By::Wire, Until::Quiet);
    Case { most: 2, ..case }
}

fn doubled(mut draft: Draft) -> Case {
    let (name, value) = [
        ("host", "169.254.169.254"),
        ("content-type", "text/plain"),
        ("authorization", "Bearer another-token-of-somebody"),
        ("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"),
        ("connection", "close"),
        ("connection", "content-length, authorization"),
        ("x-http-method-override", "DELETE"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/v1/transactions"),
        ("origin", "http://evil.example"),
    ][draft.rng.usize(..10)];
    let header = (name.to_owned(), value.as_bytes().to_vec());
    // The first counts, wherever one of them counts at all: so the right token stands first.
    draft.request.headers.push(header);
    draft.answered()
}

fn path(mut draft: Draft) -> Case {
    const PATHS: [&str; 24] = [
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v1/transactions/",
        "/v1//transactions",
        "/V1/transactions",
        "/v1/transactions/..",
        "/v1/transactions/../../livez",
        "/v1/transactions/%2e%2e/confirm",
        "/v1/transactions/%00",
        "/v1/transactions/%0d%0aX:%20y",
        "/v1/transactions/%FF/cancel",
        "/v1/transactions/%",
        "/v1/transactions/%zz",
        "/v1/transactions/a%2Fb%2F..%2Fc",
        "/v1/transactions/%25%32%46",
        "/v1/transactions/a;b=c/cancel",
        "/v1/transactions/a\\b/cancel",
        "/v1/transactions/{gid}",
        "/v1/transactions/*",
        "/livez/../v1/transactions",
        "/metrics",
        "/.git/config",
    ];
    draft.subject = super::Subject::Nobody;
    draft.request.target = match draft.rng.u8(..4) {
        0 => format!("http://evil.example{}", draft.request.target),
        // Not where it would cancel: what is stored then is no mistake.
        1 if draft.route != super::CANCEL => format!("{}/", draft.request.target),
        _ => PATHS[draft.rng.usize(..PATHS.len())].to_owned(),
    };
    if draft.request.target.starts_with("http:") && draft.route != super::SHOW {
        draft.request.target = "*".to_owned();
    }
    draft.raw(By::Wire, Until::Answers(1))
}

fn query(mut draft: Draft) -> Case {
    let query = match draft.rng.u8(..16) {
        0 => "wait=".to_owned(),
        1 => "wait=forever".to_owned(),
        2 => "wait=end&wait=end".to_owned(),
        3 => "timeout_ms=5".to_owned(),
        4 => "wait=end&timeout_ms=60001".to_owned(),
        5 => "wait=end&timeout_ms=-1".to_owned(),
        6 => "wait=end&timeout_ms=18446744073709551616".to_owned(),
        7 => "wait=decision&timeout_ms=0".to_owned(),
        8 => "wait=end&timeout_ms=1".to_owned(),
        9 => "?".repeat(100),
        10 => "&".repeat(1000),
        11 => "%00=%0d%0a".to_owned(),
        12 => "wait=%FF".to_owned(),
        13 => "gid[]=a&__proto__[x]=y".to_owned(),
        14 => "a=b&".repeat(10_000),
        _ => format!("token={TOKEN}"),
    };
    draft.request.target = format!("{}?{query}", draft.request.target);
    draft.answered()
}

fn method(mut draft: Draft) -> Case {
    const METHODS: [&str; 14] = [
        "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post", "GETT", "G",
        "GET", "POST", "M-SEARCH",
    ];
    let own = ROUTES[draft.route].0;
    let method = METHODS[draft.rng.usize(..METHODS.len())];
    draft.request.method = if method == own { "QUERY" } else { method }.to_owned();
    let bodyless = method == "HEAD";
    // What CONNECT leads to is no more HTTP.
    let until = if method == "CONNECT" { Until::Quiet } else { Until::Answers(1) };
    Case { bodyless, ..draft.raw(By::Wire, until) }
}

fn version(mut draft: Draft) -> Case {
    const VERSIONS: [&str; 10] = [
        "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/1.2", "HTTP/9.9", "HTTP/1", "http/1.1", "",
        "RTSP/1.0",
    ];
    let bytes = match draft.rng.u8(..6) {
        // HTTP/2 by prior knowledge.
        0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        // A TLS hello, and noise.
        1 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        2 => (0..draft.rng.usize(1..3000)).map(|_| draft.rng.u8(..)).collect(),
        _ => {
            draft.request.version = VERSIONS[draft.rng.usize(..VERSIONS.len())].to_owned();
            draft.request.bytes()
        }
    };
    draft.sent(bytes, By::Wire, Until::Quiet)
}

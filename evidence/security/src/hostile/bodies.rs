//! Bodies that are hostile, in requests that are good HTTP.

use serde_json::{Value, json};

use super::{BEGIN, CONFIRM, Case, Draft, Kind, REGISTER, SUBSCRIBE};
use crate::documented::By;
use crate::exchange::Until;
use crate::secrets::HEADER;

/// Texts that mean something to somebody: a shell, a log, a database, a terminal, a browser, a parser.
const TEXTS: [&str; 24] = [
    "",
    " ",
    "\u{0}",
    "\r\n",
    "a\r\nTcc-Gid: forged",
    "\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "\u{1b}[2J\u{1b}[31mforged\u{7}",
    "\u{9b}31m",
    "\u{202e}desrever",
    "\u{2028}\u{2029}",
    "\u{feff}",
    "\u{fffd}\u{ffff}\u{10ffff}",
    "' OR 1=1 --",
    "'; DROP TABLE tx; --",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}#{7*7}",
    "../../../../etc/passwd",
    "%00%0d%0a%2e%2e%2f",
    "..",
    "null",
    "NaN",
    "__proto__",
    "A\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
];

/// Endpoints that must not be called, in every spelling, and some that only seem to lead elsewhere.
pub const FORBIDDEN: [&str; 50] = [
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/",
    "http://169.254.1.1:8080/",
    "http://[fd00:42::42]/conf",
    "http://[fe80::1%25lo]/",
    "http://169.254.170.2/v2/credentials",
    "http://0xa9fea9fe/",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://0000251.0000376.000251.0000376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://169.254.169.254./",
    "http://169.254.169.254:80/",
    "http://%31%36%39.254.169.254/",
    "http://169%2e254%2e169%2e254/",
    "http:169.254.169.254/",
    "http:/169.254.169.254/",
    "http:///169.254.169.254/",
    "http:\\\\169.254.169.254\\",
    "HTTP://169.254.169.254/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[::ffff:0:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/v1/credentials",
    "http://[fd20:ce::254]/computeMetadata/v1/",
    "http://[fe80::1]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://[ff02::1]/",
    "http://[::]/",
    "http://0.0.0.0/",
    "http://0/",
    "http://0x0/",
    "http://0.1.2.3/",
    "http://255.255.255.255/",
    "http://224.0.0.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/",
    "http://192.0.0.192/opc/v2/",
    "http://user@127.0.0.1/",
    "http://user:word@127.0.0.1/",
    "http://127.0.0.1@169.254.169.254/",
    "http://169.254.169.254#@127.0.0.1/",
];

/// Schemes and shapes that no transport serves.
const NO_ENDPOINTS: [&str; 13] = [
    "",
    "http://",
    "http:",
    "://",
    "//127.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:25/_HELO",
    "javascript:alert(1)",
    "unix:/run/docker.sock",
    "http://127.0.0.1:99999/",
    "http://a b/",
    "http://127.0.0.1/\r\nTcc-Gid: forged",
    "http://xn--/",
];

/// Headers of a branch that would change whose call it is, where it goes or how it is read.
const HEADERS: [(&str, &str); 26] = [
    ("x", "a\r\nTcc-Gid: forged"),
    ("x", "a\nb"),
    ("x", "a\rb"),
    ("x", "a\u{0}b"),
    ("x", "a\tb"),
    ("x", "\u{7f}"),
    ("x", "ü"),
    ("x\r\ny", "a"),
    ("x: y", "a"),
    ("x y", "a"),
    ("", "a"),
    ("ü", "a"),
    ("Tcc-Gid", "forged"),
    ("TCC-OPERATION", "confirm"),
    ("tcc-settled", "0"),
    ("Webhook-Signature", "v1,forged"),
    ("Host", "169.254.169.254"),
    ("Content-Length", "0"),
    ("Content-Type", "text/html"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "close, x"),
    ("Upgrade", "h2c"),
    ("TE", "trailers"),
    ("Expect", "100-continue"),
    ("Proxy-Authorization", "Basic x"),
    ("traceparent", "00-0-0-00"),
];

pub(super) fn spoil(mut draft: Draft) -> Case {
    if !draft.has_body() {
        // Whoever sends a body where none is read.
        let text = TEXTS[draft.rng.usize(..TEXTS.len())];
        draft.request.body = text.as_bytes().to_vec();
        return draft.answered();
    }
    let body = match draft.kind {
        Kind::Mutated => mutated(&mut draft),
        Kind::Cut => cut(&mut draft),
        Kind::Twice => twice(&mut draft),
        Kind::NotText => not_text(&mut draft),
        Kind::Numbers => numbers(&mut draft),
        Kind::Deep => deep(&mut draft),
        Kind::Oversize => return oversize(draft),
        _ => {
            change(&mut draft);
            let text = draft.json.to_string();
            // serde_json writes no half surrogates.
            if draft.kind == Kind::Texts && draft.rng.u8(..4) == 0 {
                text.replace("\\u0000", "\\ud800")
            } else {
                text
            }
            .into_bytes()
        }
    };
    draft.request = draft.request.json(body);
    draft.answered()
}

/// Changes the JSON as JSON.
fn change(draft: &mut Draft) {
    match draft.kind {
        Kind::Swapped => {
            let odd = odd(draft);
            *place(draft) = odd;
        }
        Kind::Keys => keys(draft),
        Kind::Texts => {
            let text = json!(TEXTS[draft.rng.usize(..TEXTS.len())]);
            *place(draft) = text;
        }
        Kind::Long => long(draft),
        Kind::Misplaced => misplaced(draft),
        Kind::Endpoint => endpoint(draft),
        Kind::BranchHeaders => branch_headers(draft),
        _ => {}
    }
}

/// Some place in the JSON, the whole of it seldom.
fn place(draft: &mut Draft) -> &mut Value {
    let mut pointers = Vec::new();
    collect(&draft.json, String::new(), &mut pointers);
    let pointer = pointers[draft.rng.usize(..pointers.len())].clone();
    draft.json.pointer_mut(&pointer).expect("it was just found")
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            collect(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), pointers);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| {
            collect(value, format!("{at}/{i}"), pointers);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    pointers.push(at);
}

fn odd(draft: &mut Draft) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("7"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"": {}}),
        json!({"$serde_json::private::RawValue": "{"}),
        json!({"$serde_json::private::Number": "x"}),
    ];
    odd[draft.rng.usize(..odd.len())].clone()
}

fn keys(draft: &mut Draft) {
    let key = ["gid2", "Gid", "branches ", "", "\u{0}", "__proto__", "try_"][draft.rng.usize(..7)];
    let what = draft.rng.u8(..3);
    let objects = |draft: &Draft| {
        let mut pointers = Vec::new();
        collect(&draft.json, String::new(), &mut pointers);
        pointers.retain(|at| draft.json.pointer(at).is_some_and(Value::is_object));
        pointers
    };
    let pointers = objects(draft);
    let at = &pointers[draft.rng.usize(..pointers.len())];
    let which = draft.rng.usize(..);
    let Some(Value::Object(fields)) = draft.json.pointer_mut(at) else { return };
    let known: Vec<String> = fields.keys().cloned().collect();
    let removed = (what < 2 && !known.is_empty()).then(|| fields.remove(&known[which % known.len()]));
    if what > 0 {
        fields.insert(key.to_owned(), removed.flatten().unwrap_or_default());
    }
}

/// At the bounds that `tcc_core::limits` names, and one over them.
fn long(draft: &mut Draft) {
    let over = draft.rng.usize(..2);
    let text = |length: usize| json!("x".repeat(length + over));
    match (draft.route, draft.rng.u8(..8)) {
        (BEGIN, 0) => draft.json["parent"] = text(128),
        (BEGIN | REGISTER, 1) => draft.json["branches"][0]["id"] = text(64),
        (BEGIN | REGISTER, 2) => draft.json["branches"][0]["payload"] = text(64 * 1024 - 2),
        (BEGIN | REGISTER, 3) => {
            let at = format!("http://127.0.0.1:9/{}", "x".repeat(2048 - 19 + over));
            draft.json["branches"][0]["confirm"] = json!(at);
        }
        (BEGIN | REGISTER, 4) => {
            let one = draft.json["branches"][0].clone();
            let more = (0..100 + over).map(|i| {
                let mut branch = one.clone();
                branch["id"] = json!(format!("x{i}"));
                branch
            });
            draft.json["branches"] = more.collect();
        }
        (BEGIN | REGISTER, 5) => {
            let waits: Vec<u64> = (0..64 + over as u64).collect();
            draft.json["branches"][0]["retry"] = json!({"intervals_ms": waits});
        }
        (BEGIN | REGISTER, 6) => {
            let headers = (0..32 + over).map(|i| (format!("x-{i}"), json!("v")));
            draft.json["branches"][0]["headers"] = Value::Object(headers.collect());
        }
        (BEGIN | REGISTER, _) => {
            let after: Vec<_> = (0..100 + over).map(|i| format!("a{i}")).collect();
            draft.json["branches"][0]["after"] = json!(after);
        }
        (CONFIRM, _) => {
            draft.json["tried"] = (0..100 + over).map(|i| json!(format!("b{i}"))).collect();
        }
        _ => draft.json["reason"] = text(draft.rng.usize(1000..100_000)),
    }
}

/// Where a secret has the wrong type, the message about that must not repeat it.
fn misplaced(draft: &mut Draft) {
    let secret = format!("Bearer {HEADER}");
    if draft.route != BEGIN && draft.route != REGISTER {
        return;
    }
    draft.json["branches"][0]["headers"] = match draft.rng.u8(..5) {
        0 => json!(secret),
        1 => json!([secret]),
        2 => json!({"authorization": [secret]}),
        3 => json!({"authorization": {"bearer": secret}}),
        _ => json!({"authorization": format!("{secret}\u{7}")}),
    };
}

fn endpoint(draft: &mut Draft) {
    let all: Vec<&str> = FORBIDDEN.into_iter().chain(NO_ENDPOINTS).collect();
    let endpoint = all[draft.rng.usize(..all.len())];
    let field = ["try", "confirm", "cancel", "at", "check"][draft.rng.usize(..5)];
    match draft.route {
        BEGIN if field == "check" => {
            draft.json["decider"] = json!("initiator");
            draft.json["check"] = json!(endpoint);
        }
        BEGIN | REGISTER => {
            let branch = &mut draft.json["branches"][0];
            if field == "at" {
                *branch = json!({"id": "b0"});
            }
            branch[if field == "check" { "confirm" } else { field }] = json!(endpoint);
        }
        SUBSCRIBE => draft.json["deliver"] = json!(endpoint),
        _ => {}
    }
}

fn branch_headers(draft: &mut Draft) {
    let (name, value) = HEADERS[draft.rng.usize(..HEADERS.len())];
    if draft.route == BEGIN || draft.route == REGISTER {
        draft.json["branches"][0]["headers"] = json!({ name: value });
    }
}

fn mutated(draft: &mut Draft) -> Vec<u8> {
    let mut bytes = draft.json.to_string().into_bytes();
    for _ in 0..draft.rng.usize(1..4) {
        let at = draft.rng.usize(..bytes.len());
        match draft.rng.u8(..5) {
            0 => bytes[at] = draft.rng.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"{}[]\",:0e-+.\\ \n\0"[draft.rng.usize(..16)]),
            3 => {
                let end = (at + draft.rng.usize(..20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(bytes.len().max(2) - 1),
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

fn cut(draft: &mut Draft) -> Vec<u8> {
    let mut bytes = draft.json.to_string().into_bytes();
    bytes.truncate(draft.rng.usize(1..bytes.len()));
    bytes
}

fn twice(draft: &mut Draft) -> Vec<u8> {
    let text = draft.json.to_string();
    let key = [r#""gid":"another","#, r#""branches":[],"#, r#""reason":"b","#, r#""tried":["b"],"#];
    let start = text.find('{').map_or(0, |at| at + 1);
    let (head, tail) = text.split_at(start);
    format!("{head}{}{tail}", key[draft.rng.usize(..key.len())]).into_bytes()
}

fn not_text(draft: &mut Draft) -> Vec<u8> {
    const BAD: [&[u8]; 7] =
        [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xfe\xff"];
    let mut bytes = draft.json.to_string().into_bytes();
    let at = draft.rng.usize(..bytes.len());
    bytes.splice(at..at, BAD[draft.rng.usize(..BAD.len())].iter().copied());
    bytes
}

fn numbers(draft: &mut Draft) -> Vec<u8> {
    const NUMBERS: [&str; 12] = [
        "1e400",
        "-1e400",
        "1e-400",
        "18446744073709551616",
        "-9223372036854775809",
        "0.1e1",
        "-0",
        "00",
        "1.",
        "+1",
        "0x10",
        "NaN",
    ];
    let number = match draft.rng.u8(..8) {
        0 => "9".repeat(10_000),
        1 => format!("0.{}", "3".repeat(10_000)),
        2 => format!("1e{}", "9".repeat(5_000)),
        _ => NUMBERS[draft.rng.usize(..NUMBERS.len())].to_owned(),
    };
    if draft.rng.bool() && draft.json["branches"].is_array() {
        draft.json["branches"][0]["payload"] = json!({"amount": "NUMBER"});
    } else {
        *place(draft) = json!("NUMBER");
    }
    draft.json.to_string().replace("\"NUMBER\"", &number).into_bytes()
}

fn deep(draft: &mut Draft) -> Vec<u8> {
    let depth = [100, 127, 128, 129, 1000, 30_000][draft.rng.usize(..6)];
    let (open, close) = if draft.rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
    // Seldom without its end.
    let closes = if draft.rng.u8(..4) == 0 { 0 } else { depth };
    let inside = if open == "[" { "" } else { "1" };
    let nested = format!("{}{inside}{}", open.repeat(depth), close.repeat(closes));
    if draft.rng.u8(..3) > 0 && draft.json["branches"].is_array() {
        draft.json["branches"][0]["payload"] = json!("DEEP");
    } else {
        *place(draft) = json!("DEEP");
    }
    draft.json.to_string().replace("\"DEEP\"", &nested).into_bytes()
}

fn oversize(mut draft: Draft) -> Case {
    let room = 512 * 1024;
    let length = [room - 1, room, room + 1, 2 * room][draft.rng.usize(..4)];
    let mut bytes = draft.json.to_string().into_bytes();
    // White space is JSON, too.
    bytes.resize(length, b' ');
    if draft.rng.bool() {
        draft.request = draft.request.json(bytes);
        // Whoever is refused early may find the connection reset before the answer is read.
        return draft.raw(By::Wire, Until::Answers(1));
    }
    draft.request.headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    draft.request.headers.push(("content-length".to_owned(), b"18446744073709551614".to_vec()));
    draft.request.body = bytes;
    draft.raw(By::Wire, Until::Quiet)
}

//! The generator of hostile requests: each drawn from the seed and its own number, so that one can be sent again.

mod bodies;
mod framing;
mod heads;

pub use self::bodies::FORBIDDEN;

use std::net::SocketAddr;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::documented::By;
use crate::exchange::{Request, Until};
use crate::secrets::{HEADER, PAYLOAD, QUERY, TOKEN, WRONG_TOKEN};

/// Every operation of the API.
pub const ROUTES: [(&str, &str); 19] = [
    ("POST", "/v1/transactions"),
    ("GET", "/v1/transactions/{gid}"),
    ("POST", "/v1/transactions/{gid}/branches"),
    ("POST", "/v1/transactions/{gid}/confirm"),
    ("POST", "/v1/transactions/{gid}/cancel"),
    ("GET", "/v1/transactions"),
    ("POST", "/v1/transactions/{gid}/branches/{id}/force"),
    ("POST", "/v1/transactions/{gid}/retry"),
    ("POST", "/v1/transactions/{gid}/acknowledge"),
    ("GET", "/v1/transactions/{gid}/events"),
    ("POST", "/v1/transactions/{gid}/resend"),
    ("PUT", "/v1/topics/{topic}/subscribers/{id}"),
    ("DELETE", "/v1/topics/{topic}/subscribers/{id}"),
    ("GET", "/v1/topics/{topic}"),
    ("GET", "/v1/topics"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
];

/// An operation: an index into [`ROUTES`].
pub type Route = usize;

const BEGIN: Route = 0;
const SHOW: Route = 1;
const REGISTER: Route = 2;
const CONFIRM: Route = 3;
const CANCEL: Route = 4;
const FORCE: Route = 6;
const RETRY: Route = 7;
const ACKNOWLEDGE: Route = 8;
const EVENTS: Route = 9;
const RESEND: Route = 10;
const SUBSCRIBE: Route = 11;

/// Whether a route is anybody's, without a token.
#[must_use]
pub fn is_open(route: Route) -> bool {
    !ROUTES[route].1.starts_with("/v1") && ROUTES[route].1 != "/metrics"
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal;)*) => {
        /// What is hostile about a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// What is printed.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }
        }
    };
}

kinds! {
    /// Nothing: so that good ones are among them.
    Good = "nothing";
    /// A value became one of another type, or an odd one.
    Swapped = "a value swapped";
    /// A key is missing, renamed, or there beside an unknown one.
    Keys = "keys missing, renamed, unknown";
    /// A key stands twice.
    Twice = "a key twice";
    /// Bytes of the JSON were changed, left out or doubled.
    Mutated = "bytes of the JSON changed";
    /// The JSON ends too early, its length telling so.
    Cut = "JSON cut short";
    /// JSON nested deeper than anybody reads, in the payload or around it.
    Deep = "deep JSON";
    /// Numbers that fit nowhere.
    Numbers = "numbers that fit nowhere";
    /// Texts with control characters, escapes, half surrogates, SQL, terminal commands.
    Texts = "hostile texts";
    /// Texts and lists of the greatest length that is taken, and one more.
    Long = "long texts and lists";
    /// More than is ever read.
    Oversize = "oversize bodies";
    /// Not UTF-8.
    NotText = "bad UTF-8";
    /// A secret stands where its type is wrong.
    Misplaced = "a secret misplaced";
    /// An endpoint nobody may call.
    Endpoint = "hostile endpoints";
    /// Headers of a branch that would be more than headers.
    BranchHeaders = "hostile branch headers";
    /// Another content type, or none.
    ContentType = "content types";
    /// A body said to be compressed.
    Encoded = "content encodings";
    /// No token.
    NoToken = "no token";
    /// A token that is nearly right, or in another form.
    WrongToken = "wrong tokens";
    /// Control characters in the head.
    Control = "control characters in the head";
    /// A header twice.
    Doubled = "headers twice";
    /// A header, or all of them, too long.
    HugeHeader = "huge headers";
    /// More headers than are read.
    ManyHeaders = "many headers";
    /// The path in other spellings.
    Path = "paths";
    /// A path without end.
    LongPath = "overlong paths";
    /// Queries.
    Query = "queries";
    /// Other methods.
    Method = "methods";
    /// Other versions, and no HTTP at all.
    Version = "versions";
    /// The sender hangs up in the midst of its request.
    HungUp = "hung up half-way";
    /// The length is told differently from what is sent.
    Length = "wrong lengths";
    /// Two lengths, or a length and chunks: one of them smuggles a request.
    Smuggled = "smuggled requests";
    /// Chunks that are none.
    Chunks = "broken chunks";
    /// Several requests at once.
    Pipelined = "pipelined requests";
    /// `Expect`, and attempts to speak something else.
    Upgrade = "expect and upgrade";
}

/// Which token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The right one.
    Right,
    /// None, or another.
    Wrong,
}

/// The transaction a request is about, as it stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// None.
    Nobody,
    /// Nothing is known of this gid.
    Unknown(String),
    /// It was begun by an initiator that decides, and has no branches yet.
    Begun(String),
}

impl Subject {
    /// Its gid.
    #[must_use]
    pub fn gid(&self) -> Option<&str> {
        match self {
            Self::Nobody => None,
            Self::Unknown(gid) | Self::Begun(gid) => Some(gid),
        }
    }
}

/// A hostile request.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is hostile about it.
    pub kind: Kind,
    /// The operation it is meant for.
    pub route: Route,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// When enough is heard.
    pub until: Until,
    /// Who may answer.
    pub by: By,
    /// How many requests it may be taken for.
    pub most: usize,
    /// Whether answers have no body.
    pub bodyless: bool,
    /// Which token it shows.
    pub shown: Shown,
    /// What it is about.
    pub subject: Subject,
    /// The branches that its transaction must have if it is taken; `None` where that cannot be foretold.
    pub branches: Option<Vec<String>>,
}

/// What cases are made of.
pub struct Draft {
    /// Draws.
    pub rng: Rng,
    /// What is hostile about it.
    pub kind: Kind,
    /// The operation.
    pub route: Route,
    /// The request so far.
    pub request: Request,
    /// Its body, before it became bytes.
    pub json: Value,
    /// What it is about.
    pub subject: Subject,
}

/// Draws the case of this number. Endpoints lead to `participant` unless they are what is hostile.
#[must_use]
pub fn case(seed: u64, number: u64, participant: SocketAddr) -> Case {
    let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // Each kind at each route in turn, whatever the seed.
    let kinds = Kind::ALL.len() as u64;
    let kind = Kind::ALL[usize::try_from(number % kinds).expect("a small number")];
    let route = usize::try_from(number / kinds % ROUTES.len() as u64).expect("a small number");
    let gid = format!("s{seed:x}/{number}");
    let (subject, json) = match route {
        BEGIN => (Subject::Unknown(gid.clone()), begin(&mut rng, &gid, participant)),
        REGISTER => (Subject::Begun(gid), json!({"branches": branches(&mut rng, participant, false)})),
        CONFIRM => (Subject::Begun(gid), json!({"tried": []})),
        // Nothing but a cancel may store something of a gid that nobody knows.
        CANCEL if rng.bool() => (Subject::Unknown(gid), json!({"reason": "changed my mind"})),
        CANCEL => (Subject::Begun(gid), json!({"reason": "changed my mind"})),
        SHOW | EVENTS => (Subject::Begun(gid), Value::Null),
        RESEND => (Subject::Begun(gid.clone()), json!({"gid": format!("{gid}/again")})),
        ACKNOWLEDGE => (Subject::Begun(gid), json!({"reason": "seen"})),
        RETRY => (Subject::Begun(gid), json!({})),
        FORCE => (Subject::Begun(gid), json!({"reason": "done by hand"})),
        SUBSCRIBE => {
            (Subject::Nobody, json!({"deliver": format!("http://{participant}/confirm?key={QUERY}")}))
        }
        _ => (Subject::Nobody, Value::Null),
    };
    let (method, path) = ROUTES[route];
    let target = path.replace("{gid}", &subject.gid().unwrap_or_default().replace('/', "%2F"));
    let target = target.replace("{id}", "b0").replace("{topic}", "order.created");
    let request = Request::new(method, &target).with_token();
    finish(Draft { rng, kind, route, request, json, subject })
}

/// A good begin.
fn begin(rng: &mut Rng, gid: &str, participant: SocketAddr) -> Value {
    let coordinator = rng.bool();
    let decider = if coordinator { "coordinator" } else { "initiator" };
    let branches = branches(rng, participant, coordinator);
    json!({"gid": gid, "decider": decider, "timeout_ms": 600_000, "branches": branches})
}

/// Good branches, with secrets in them.
fn branches(rng: &mut Rng, participant: SocketAddr, coordinator: bool) -> Vec<Value> {
    let branch = |i: usize| {
        let at = |step: &str| format!("http://{participant}/{step}?key={QUERY}");
        let mut branch = json!({
            "id": format!("b{i}"), "confirm": at("confirm"), "cancel": at("cancel"),
            "payload": {"secret": PAYLOAD, "amount": 30}, "headers": {"x-api-key": HEADER},
            "retry": {"first_ms": 1000, "longest_ms": 60_000},
        });
        if coordinator {
            branch["try"] = json!(at("try"));
        }
        if i > 0 {
            branch["after"] = json!([format!("b{}", i - 1)]);
        }
        branch
    };
    (0..rng.usize(1..4)).map(branch).collect()
}

/// Makes it hostile.
fn finish(draft: Draft) -> Case {
    let kind = draft.kind;
    match kind {
        Kind::Good
        | Kind::Swapped
        | Kind::Keys
        | Kind::Twice
        | Kind::Mutated
        | Kind::Cut
        | Kind::Deep
        | Kind::Numbers
        | Kind::Texts
        | Kind::Long
        | Kind::Oversize
        | Kind::NotText
        | Kind::Misplaced
        | Kind::Endpoint
        | Kind::BranchHeaders => bodies::spoil(draft),
        Kind::ContentType
        | Kind::Encoded
        | Kind::NoToken
        | Kind::WrongToken
        | Kind::Control
        | Kind::Doubled
        | Kind::HugeHeader
        | Kind::ManyHeaders
        | Kind::Path
        | Kind::LongPath
        | Kind::Query
        | Kind::Method
        | Kind::Version => heads::spoil(draft),
        Kind::HungUp | Kind::Length | Kind::Smuggled | Kind::Chunks | Kind::Pipelined | Kind::Upgrade => {
            framing::spoil(draft)
        }
    }
}

impl Draft {
    /// Whether the operation reads a body.
    fn has_body(&self) -> bool {
        ["POST", "PUT"].contains(&ROUTES[self.route].0)
    }

    /// The request with its body as it stands.
    fn with_json(&mut self) {
        if !self.json.is_null() {
            self.request = self.request.clone().json(self.json.to_string());
        }
    }

    /// The case of one good request in HTTP, which the API answers.
    fn answered(self) -> Case {
        let bodyless = self.request.method == "HEAD";
        Case { bodyless, ..self.raw(By::Api, Until::Answers(1)) }
    }

    /// The case of a request as it stands.
    fn raw(self, by: By, until: Until) -> Case {
        let bytes = self.request.bytes();
        self.sent(bytes, by, until)
    }

    /// The case of these bytes.
    fn sent(self, bytes: Vec<u8>, by: By, until: Until) -> Case {
        Case {
            kind: self.kind,
            route: self.route,
            bytes,
            until,
            by,
            most: 1,
            bodyless: false,
            shown: Shown::Right,
            branches: ids(&self.request.body),
            subject: self.subject,
        }
    }
}

/// The branches in a body, if it can be read.
fn ids(body: &[u8]) -> Option<Vec<String>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let Some(branches) = body["branches"].as_array() else { return Some(Vec::new()) };
    branches.iter().map(|branch| branch["id"].as_str().map(ToOwned::to_owned)).collect()
}

/// Wrong ways to show a token.
fn wrong_authorization(rng: &mut Rng) -> String {
    let upper = TOKEN.to_uppercase();
    let nearly = &TOKEN[..TOKEN.len() - 1];
    let ways = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {WRONG_TOKEN}"),
        format!("Bearer {nearly}"),
        format!("Bearer {TOKEN}0"),
        format!("Bearer {TOKEN},{TOKEN}"),
        format!("Bearer {upper}"),
        format!("Bearer \"{TOKEN}\""),
        format!("Basic {TOKEN}"),
        format!("Token {TOKEN}"),
        format!("Bearer{TOKEN}"),
        TOKEN.to_owned(),
        format!("Bearer {}", "A".repeat(8000)),
        "Bearer \u{fffd}".to_owned(),
        "Bearer null".to_owned(),
    ];
    ways[rng.usize(..ways.len())].clone()
}

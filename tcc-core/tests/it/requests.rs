//! Bad input gets a clear error that names its place.

use tcc_core::wire::{BeginRequest, RegisterRequest};
use tcc_core::{Event, Rejection, Transaction};

use crate::support::{PATIENCE, T0};

/// The place and the detail of the mistake.
fn mistake(json: &str) -> String {
    let request: BeginRequest = match serde_json::from_str(json) {
        Ok(request) => request,
        Err(error) => return format!("json: {error}"),
    };
    match request.parse(|| "made".parse().unwrap()).and_then(|begin| Transaction::begin(begin, PATIENCE, T0))
    {
        Ok(transaction) => format!("fine: {}", transaction.phase().as_str()),
        Err(invalid) => invalid.to_string(),
    }
}

#[test]
fn each_mistake_in_a_begin_is_named_by_its_place() {
    let b = |branch: &str| mistake(&format!(r#"{{"branches":[{{"id":"a",{branch}}}]}}"#));
    let two = |a: &str, b: &str| {
        mistake(&format!(r#"{{"branches":[{{"id":"a","at":"t:a"{a}}},{{"id":"b","at":"t:b"{b}}}]}}"#))
    };
    let long = "x".repeat(64 * 1024);
    #[rustfmt::skip]
    let table = [
        (mistake(r#"{"gid":"a b","branches":[{"id":"a","at":"t:a"}]}"#), "/gid holds ' '"),
        (mistake(r#"{"gid":"","branches":[{"id":"a","at":"t:a"}]}"#), "/gid is empty"),
        (mistake(r#"{"branch":[]}"#), "json: unknown field `branch`"),
        (mistake(r#"{"decider":"me"}"#), "/decider is neither"),
        (mistake(r#"{"timeout_ms":0}"#), "/timeout_ms is 0"),
        (mistake(r#"{"timeout_ms":99999999999999}"#), "/timeout_ms is over"),
        (mistake(r#"{"timeout_ms":-1}"#), "json: invalid value: integer `-1`"),
        (mistake(r#"{"check_after_ms":5}"#), "/check_after_ms says when to ask"),
        (mistake(r#"{"branches":[]}"#), "/branches is empty"),
        (mistake(r#"{"branches":[{"id":"a","at":"t:a"}],"check":"t:c"}"#), "/check is asked of an initiator"),
        (mistake(r#"{"decider":"initiator","check":"t:c","branches":[{"id":"a","try":"t:a","cancel":"none"}]}"#), "/branches/0/try cannot stand beside a check"),
        (b(r#""confirm":"payment""#), "/branches/0/confirm has no scheme"),
        (b(r#""at":"http://a?b""#), "/branches/0/at has a query"),
        (b(r#""payload":1"#), "/branches/0 has no endpoint"),
        (b(r#""cancel":"none""#), "/branches/0 has no endpoint"),
        (b(r#""try":"t:a","confirm":"t:a""#), "/branches/0/cancel is missing"),
        (b(r#""confirm":"t:a","cancel":"t:a""#), "/branches/0/try has a cancel and no try"),
        (b(r#""at":"t:a","delay_ms":99999999999999"#), "/branches/0/delay_ms is over"),
        (b(r#""at":"t:a","reserves_ms":0"#), "/branches/0/reserves_ms is 0"),
        (b(r#""at":"t:a","timeout_ms":60001"#), "/branches/0/timeout_ms is over"),
        (b(r#""at":"t:a","headers":{"Tcc-Gid":"x"}"#), "/branches/0/headers hold \"Tcc-Gid\""),
        (b(r#""at":"t:a","headers":{"Content-Length":"1"}"#), "/branches/0/headers hold \"Content-Length\""),
        (b(r#""at":"t:a","headers":{"a b":"1"}"#), "/branches/0/headers hold \"a b\""),
        (b(r#""at":"t:a","headers":{"a":"1\r\nb: 2"}"#), "/branches/0/headers hold a value"),
        (b(r#""at":"t:a","retry":{"give_up":true}"#), "/branches/0/retry/give_up needs intervals_ms"),
        (b(r#""at":"t:a","retry":{"intervals_ms":[1],"give_up":true}"#), "/branches/0/retry/give_up only a branch"),
        (b(r#""at":"t:a","retry":{"intervals_ms":[]}"#), "/branches/0/retry/intervals_ms has none"),
        (b(r#""at":"t:a","retry":{"first_ms":10,"longest_ms":5}"#), "/branches/0/retry/longest_ms is less"),
        (b(r#""at":"t:a","retry":{"first_ms":10,"intervals_ms":[1]}"#), "/branches/0/retry/intervals_ms stands beside"),
        (b(&format!(r#""at":"t:a","payload":"{long}""#)), "/branches/0/payload is longer"),
        (two(r#","after":["c"]"#, ""), "/branches/0/after/0 names no branch: c"),
        (two(r#","after":["b"]"#, r#","after":["a"]"#), "/branches/0/after closes a cycle"),
        (two(r#","after":["a"]"#, ""), "/branches/0/after closes a cycle"),
        (two("", r#","after":["a","a"]"#), "/branches/1/after/1 names a a second time"),
        (mistake(r#"{"branches":[{"id":"a","at":"t:a"},{"id":"a","at":"t:a"}]}"#), "/branches/0/id stands twice"),
        (two("", r#","after":["a"]"#), "fine: Trying"),
        (mistake(r#"{"branches":[{"id":"tcc/sender","confirm":"t:a"}]}"#), "/branches/0/id begins with tcc/"),
        (mistake(r#"{"branches":[{"id":"a","confirm":"t:a"}]}"#), "fine: Confirming"),
        (mistake(r#"{"decider":"initiator"}"#), "fine: Trying"),
    ];
    for (is, starts) in table {
        assert!(is.starts_with(starts), "{is:?} does not start with {starts:?}");
    }
    let many: Vec<String> = (0..101).map(|i| format!(r#"{{"id":"b{i}","at":"t:a"}}"#)).collect();
    assert!(
        mistake(&format!(r#"{{"branches":[{}]}}"#, many.join(",")))
            .starts_with("/branches are more than 100")
    );
}

/// JSON by its grammar, but deeper, greater or less of a text than readers take.
#[test]
fn a_payload_that_readers_do_not_take_is_refused_by_its_place() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    for payload in [&deep, "1e400", "-1e400", r#""\ud800""#, r#"{"a":[1,"\udc00\ud800"]}"#] {
        let branches = format!(r#"{{"branches":[{{"id":"a","at":"t:a","payload":{payload}}}]}}"#);
        let is = mistake(&branches);
        assert!(
            is.starts_with("/branches/0/payload is more than JSON readers take"),
            "{is:?} for {:.40}",
            payload
        );
        let register: RegisterRequest = serde_json::from_str(&branches).unwrap();
        assert_eq!(register.parse().unwrap_err().pointer, "/branches/0/payload");
    }
}

/// They may be credentials, and what is said of a request ends up in logs.
#[test]
fn a_header_of_the_wrong_type_is_not_repeated() {
    for headers in
        [r#""secret""#, r#"["secret"]"#, r#"{"k":["secret"]}"#, r#"{"k":{"b":"secret"}}"#, r#"{"k":7175}"#]
    {
        let is = mistake(&format!(r#"{{"branches":[{{"id":"a","at":"t:a","headers":{headers}}}]}}"#));
        assert!(is.starts_with("json: headers are an object of texts"), "{is:?}");
        assert!(!is.contains("secret") && !is.contains("7175"), "{is:?}");
    }
    let bad = mistake(r#"{"branches":[{"id":"a","at":"t:a","headers":{"k":"secret\u0007"}}]}"#);
    assert!(bad.starts_with("/branches/0/headers hold a value") && !bad.contains("secret"), "{bad:?}");
}

#[test]
fn a_try_without_a_cancel_must_say_so() {
    let none = r#"{"branches":[{"id":"a","try":"t:a","cancel":"none"}]}"#;
    assert_eq!(mistake(none), "fine: Trying");
}

#[test]
fn at_stands_for_the_endpoints_that_the_coordinator_is_to_call() {
    let fields = |json: &str| {
        let request: BeginRequest = serde_json::from_str(json).unwrap();
        let begin = request.parse(|| "made".parse().unwrap()).unwrap();
        begin.branches[0].endpoints().map(|(field, at)| format!("{field}={at}")).collect::<Vec<_>>().join(" ")
    };
    let coordinator = r#"{"branches":[{"id":"a","at":"http://a/b/"}]}"#;
    assert_eq!(fields(coordinator), "try=http://a/b/try confirm=http://a/b/confirm cancel=http://a/b/cancel");
    let initiator = r#"{"decider":"initiator","branches":[{"id":"a","at":"http://a/b"}]}"#;
    assert_eq!(fields(initiator), "confirm=http://a/b/confirm cancel=http://a/b/cancel");
    let own = r#"{"branches":[{"id":"a","at":"http://a/b","confirm":"http://c/","cancel":"none"}]}"#;
    assert_eq!(fields(own), "try=http://a/b/try confirm=http://c/");
}

#[test]
fn a_repeat_is_known_by_its_content_and_not_by_its_spelling() {
    let digest = |json: &str| {
        let request: BeginRequest = serde_json::from_str(json).unwrap();
        request.parse(|| "made".parse().unwrap()).unwrap().digest
    };
    let first = digest(r#"{"gid":"g","branches":[{"id":"a","at":"t:a","payload":{"x":1,"y":[2]}}]}"#);
    assert_eq!(
        first,
        digest(r#"{"branches":[{"payload":{"y": [2], "x": 1},"at":"t:a","id":"a"}],"gid":"g"}"#)
    );
    assert_ne!(first, digest(r#"{"gid":"g","branches":[{"id":"a","at":"t:a","payload":{"x":1,"y":[3]}}]}"#));
    assert_ne!(
        first,
        digest(
            r#"{"gid":"g","timeout_ms":60000,"branches":[{"id":"a","at":"t:a","payload":{"x":1,"y":[2]}}]}"#
        )
    );
    let register: RegisterRequest = serde_json::from_str(r#"{"branches":[]}"#).unwrap();
    assert_eq!(register.parse().unwrap_err().to_string(), "/branches is empty");
}

#[test]
fn amounts_beyond_all_machine_numbers_are_told_apart() {
    let digest = |wei: &str| {
        let json = format!(r#"{{"gid":"g","branches":[{{"id":"a","at":"t:a","payload":{{"wei":{wei}}}}}]}}"#);
        let request: BeginRequest = serde_json::from_str(&json).unwrap();
        request.parse(|| unreachable!("it has a gid")).unwrap().digest
    };
    assert_ne!(digest("100000000000000000001"), digest("100000000000000000002"));
    assert_eq!(digest("100000000000000000001"), digest(" 100000000000000000001 "));
}

#[test]
fn a_branch_that_needs_no_cancel_is_tried_and_is_no_message() {
    let confirms_only = |json: &str| {
        let request: RegisterRequest = serde_json::from_str(&format!(r#"{{"branches":[{json}]}}"#)).unwrap();
        request.parse().map(|branches| branches[0].confirms_only())
    };
    assert_eq!(confirms_only(r#"{"id":"a","confirm":"t:a"}"#), Ok(true));
    assert_eq!(confirms_only(r#"{"id":"a","confirm":"t:a","cancel":"none"}"#), Ok(false));
    let ladder = r#"{"id":"a","confirm":"t:a","cancel":"none","retry":{"intervals_ms":[1],"give_up":true}}"#;
    assert!(confirms_only(ladder).unwrap_err().to_string().contains("only a branch with confirm alone"));
}

#[test]
fn a_mistake_in_a_register_is_named_by_its_place_beside_what_is_registered_already() {
    let mistake = |check: &str, second: &str| {
        let json = format!(
            r#"{{"gid":"g","decider":"initiator","branches":[{{"id":"a","confirm":"t:a"}}]{check}}}"#
        );
        let begin: BeginRequest = serde_json::from_str(&json).unwrap();
        let begin = begin.parse(|| unreachable!("it has a gid")).unwrap();
        let mut transaction = Transaction::begin(begin, PATIENCE, T0).unwrap();
        let json = format!(r#"{{"branches":[{{"id":"a","confirm":"t:a"}},{{"id":"b",{second}}}]}}"#);
        let register: RegisterRequest = serde_json::from_str(&json).unwrap();
        match transaction.apply(Event::Register(register.parse().unwrap()), T0) {
            Err(Rejection::Invalid(invalid)) => invalid.pointer,
            other => format!("{other:?}"),
        }
    };
    assert_eq!(mistake("", r#""confirm":"t:b","after":["c"]"#), "/branches/1/after/0");
    let tried = r#""try":"t:b","cancel":"none""#;
    assert_eq!(mistake(r#","check":"t:c""#, tried), "/branches/1/try");
    assert_eq!(mistake("", tried), "Ok(Changed)");
}

#[test]
fn a_step_of_a_saga_is_a_branch_under_the_names_that_sagas_have() {
    let parsed = |branch: &str| {
        let request: BeginRequest =
            serde_json::from_str(&format!(r#"{{"gid":"trip","branches":[{branch}]}}"#)).unwrap();
        request.parse(|| unreachable!("it has a gid")).unwrap()
    };
    let step = parsed(r#"{"id":"hotel","action":"http://hotel/book","compensate":"http://hotel/cancel"}"#);
    let branch = parsed(r#"{"id":"hotel","try":"http://hotel/book","cancel":"http://hotel/cancel"}"#);
    assert_eq!(step.branches[0].try_, branch.branches[0].try_);
    assert_eq!(step.branches[0].cancel, branch.branches[0].cancel);
    assert_eq!(step.digest, branch.digest, "it is the same transaction");
    let both = r#"{"branches":[{"id":"a","try":"t:a","action":"t:a","cancel":"none"}]}"#;
    assert!(serde_json::from_str::<BeginRequest>(both).unwrap_err().to_string().contains("duplicate field"));
}
